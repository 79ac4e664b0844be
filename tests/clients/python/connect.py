"""Clients as `connect --write` sets them up, headless, against the demo. Usage: connect.py BASE_URL

Each check runs with a home without settings, and with a hand-written settings file. After one request with the
client, `--undo` must restore the file byte for byte.
"""

import os
import re
import sys
from pathlib import Path

from harness import MODEL, NO_MODEL, run
from workshop import PROGRAMS, ROOT_URL, Workshop, connect

HELLO = "Hello there"
# The directory with the run file of the daemon.
OURS = {"CODEX_PROXY_HOME": os.environ["CODEX_PROXY_HOME"]}
PYTHON = {"PYTHONPYCACHEPREFIX": os.environ["PYTHONPYCACHEPREFIX"]}


def file_of(shop, reported):
    """The first file named in the output."""
    return shop.home / re.match(r"~/(.*?) (was written|was changed|already has)", reported)[1]


def is_set_up(client, before, command, environment):
    with Workshop() as shop:
        file = file_of(shop, connect(shop, client, "--write", OURS))
        assert file.exists(), file
        connect(shop, client, "--undo", OURS)
        assert not file.exists(), file
        file.write_bytes(before)
        connect(shop, client, "--write", OURS)
        written = file.read_bytes()
        assert ROOT_URL.encode() in written and written != before, written
        assert "already" in connect(shop, client, "--write", OURS)
        assert file.read_bytes() == written, "once is enough"
        done = shop.try_run([*command, HELLO], environment)
        assert done.returncode == 0, f"exit code {done.returncode}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
        assert NO_MODEL in done.stdout and HELLO in done.stdout, done.stdout
        connect(shop, client, "--undo", OURS)
        assert file.read_bytes() == before, file.read_bytes()


def program(client, pattern):
    found = sorted(PROGRAMS.glob(pattern))
    if not found:
        print(f"skipped connect {client}: there is no program of it for this machine", flush=True)
    return [str(path) for path in found[:1]]


def codex_is_set_up():
    if codex := program("codex", ".bin/codex"):
        before = b'# mine\nmodel = "other" # why\n\n[analytics]\nenabled = false\n'
        is_set_up("codex", before, [*codex, "exec", "--skip-git-repo-check"], {})


def claude_is_set_up():
    if claude := program("claude", "@anthropic-ai/claude-code-*/claude"):
        quiet = {"CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1", "DISABLE_AUTOUPDATER": "1"}
        before = b'{"includeCoAuthoredBy": false, "env": {"DISABLE_TELEMETRY": "1"}}'
        is_set_up("claude", before, [*claude, "-p", "--"], quiet)


def opencode_is_set_up():
    # The baseline binary runs on any processor, the other one only on newer ones.
    if opencode := program("opencode", "opencode-*-baseline/bin/opencode") or program("opencode", "opencode-*/bin/opencode"):
        before = b'{\n  // mine\n  "$schema": "https://opencode.ai/config.json",\n  "autoupdate": false,\n}\n'
        is_set_up("opencode", before, [*opencode, "run"], {})


def llm_is_set_up():
    before = b"# mine\n- model_id: other\n  model_name: other"
    command = [sys.executable, "-m", "llm", "-m", f"codex-proxy/{MODEL}"]
    is_set_up("llm", before, command, {**PYTHON, "PYTHONPATH": os.environ["PYTHONPATH"]})


def aider_is_set_up():
    modules = Path(os.environ["CLIENT_AIDER"])
    if not (modules / "aider").is_dir():
        print("skipped connect aider: it is not made for this Python", flush=True)
        return
    before = b"dark-mode: true # mine\ncheck-update: false\nanalytics: false"
    plain = ["--no-git", "--no-pretty", "--no-show-model-warnings", "--no-show-release-notes", "--chat-mode", "ask"]
    command = [sys.executable, "-m", "aider", *plain, "--message"]
    is_set_up("aider", before, command, {**PYTHON, "PYTHONPATH": str(modules), "LITELLM_LOCAL_MODEL_COST_MAP": "True"})


run("connect", [codex_is_set_up, claude_is_set_up, opencode_is_set_up, llm_is_set_up, aider_is_set_up])
