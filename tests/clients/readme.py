#!/usr/bin/env python3
"""Runs the commands of the README and the docs. Usage: readme.py BINARY TOOLS_DIRECTORY

Starts the demo with the README's own command, runs its curl, Python and JavaScript examples against
it, and checks that every `codex-proxy` command in the README and in docs/ exists. Prints `ok …`,
`skipped …` or `FAILED …` for each.
"""

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BINARY = str(Path(sys.argv[1]).resolve())
TOOLS = Path(sys.argv[2]).resolve()
PORT = 8787
NO_MODEL = "no model wrote this"
README = (ROOT / "README.md").read_text()
PAGES = [README, *(page.read_text() for page in sorted((ROOT / "docs").glob("*.md")))]


def blocks(language, page=README):
    return re.findall(rf"^```{language}\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)


def shell_lines(page=README):
    for block in blocks("sh", page):
        for line in block.replace("\\\n", " ").splitlines():
            yield line.split(" #")[0].strip()


def named_commands():
    """Returns every `codex-proxy …` command in a shell block or a code span."""
    commands = set()
    for page in PAGES:
        spans = re.findall(r"`(codex-proxy [^`]+)`", page)
        lines = [line for line in shell_lines(page) if line.startswith("codex-proxy ")]
        commands.update(" ".join(command.split()) for command in [*lines, *spans])
    return sorted(commands)


def is_held():
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", PORT)) == 0


def run(command, **options):
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, **options)
    return done.stdout if done.returncode == 0 else f"exit code {done.returncode}: {done.stdout}{done.stderr}"


def start_demo(environment, log):
    """Starts the demo with the README's command and waits until it is ready."""
    command = next(line for line in shell_lines() if line.endswith("serve --demo"))
    demo = subprocess.Popen(
        shlex.split(command), cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    for line in demo.stderr:
        log.append(line)
        if "ready" in line:
            return command, demo
    raise AssertionError(f"`{command}` ended: {''.join(log)}")


def curl():
    if not shutil.which("curl"):
        return None
    return run(["sh", "-c", next(block for block in blocks("sh") if block.startswith("curl"))])


def python():
    environment = {**os.environ, "PYTHONPATH": str(TOOLS / "python")}
    return run([sys.executable, "-c", blocks("python")[0]], env=environment)


def javascript():
    script = TOOLS / "node" / "readme.mjs"
    script.write_text(blocks("js")[0])
    return run(["node", str(script)])


def check(name, outcome):
    """Prints the outcome of a check. Returns whether it didn't fail."""
    if outcome is None:
        print(f"skipped readme {name}: it is not installed")
    elif NO_MODEL in outcome:
        print(f"ok readme {name}")
    else:
        print(f"FAILED readme {name}: {' '.join(outcome.split())}")
    return outcome is None or NO_MODEL in outcome


def demo_answers():
    if is_held():
        print(f"skipped readme demo: something listens on port {PORT}")
        return True
    with tempfile.TemporaryDirectory() as home:
        # The build is done; cargo doesn't need the network any more.
        environment = {**os.environ, "CODEX_PROXY_HOME": home, "CARGO_NET_OFFLINE": "true"}
        command, demo = start_demo(environment, [])
        try:
            print(f"ok readme {command}")
            return all([check("curl", curl()), check("python", python()), check("javascript", javascript())])
        finally:
            os.killpg(demo.pid, signal.SIGTERM)
            demo.communicate(timeout=30)


def commands_exist():
    failures = 0
    for command in named_commands():
        arguments = shlex.split(command)[1:]
        done = subprocess.run([BINARY, *arguments, "--help"], capture_output=True, text=True, timeout=30)
        if done.returncode == 0:
            print(f"ok readme {command}")
        else:
            failures += 1
            print(f"FAILED readme {command}: {' '.join(done.stderr.split())}")
    return failures == 0


sys.exit(0 if all([demo_answers(), commands_exist()]) else 1)
