#!/usr/bin/env python3
"""A screenshot of a terminal session. Usage: terminal.py BINARY BROWSER FOLDER

The programs run on a terminal with 80 columns, in a temporary home, against the simulated backend. The browser
renders their output with its colors to FOLDER/terminal.png.
"""

import base64
import fcntl
import html
import json
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
import time
from pathlib import Path

from bench import access_token, serve, start_daemon
from chromium import Chromium
from palette import with_palette
from simulated import Backend, fill

BINARY, BROWSER, FOLDER = sys.argv[1], sys.argv[2], Path(sys.argv[3])
COLUMNS, ROWS = 80, 60
# Two windows and a few days, and one request; longer would be small to read.
SESSION = (
    "codex-proxy status",
    """\
curl -s http://127.0.0.1:8787/v1/chat/completions \\
    -H 'content-type: application/json' -d '{"model": "gpt-6.2-sol",
    "messages": [{"role": "user", "content": "Hello"}]}' |
    jq -r '.choices[0].message.content'""",
    "codex-proxy usage",
)
PAGE = (Path(__file__).resolve().parent / "terminal.html").read_text()


def settle(room, backend_port):
    """A home with the program, settings and a login, visible as /home/you to the programs in it."""
    home = room / "you"
    (home / ".local/bin").mkdir(parents=True)
    shutil.copy(BINARY, home / ".local/bin/codex-proxy")
    (home / ".config/codex-proxy").mkdir(parents=True)
    (home / ".config/codex-proxy/config.toml").write_text(
        f"upstream.url = 'http://127.0.0.1:{backend_port}/backend-api/codex'\nauth.url = 'http://127.0.0.1:9'\n"
    )
    tokens = {"id_token": identity(), "access_token": access_token(), "refresh_token": "simulated"}
    login = {"auth_mode": "chatgpt", "tokens": tokens, "last_refresh": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
    (home / "login.json").write_text(json.dumps(login))
    subprocess.run(
        [*inside(room), "codex-proxy", "login", "--import", "login.json", "--take-over"],
        env=environment(), check=True, capture_output=True,
    )
    return home


def identity():
    part = lambda value: base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()
    more = {"chatgpt_account_id": "acct-1", "chatgpt_plan_type": "plus"}
    claims = {"email": "you@example.com", "exp": int(time.time()) + 86400, "https://api.openai.com/auth": more}
    return f"{part({'alg': 'none'})}.{part(claims)}.c2ln"


def inside(room):
    """The prefix of a command that runs with this directory as /home."""
    return ["unshare", "--mount", "sh", "-c", 'mount --bind "$0" /home && cd && exec "$@"', str(room)]


def environment():
    path = f"/home/you/.local/bin:{os.environ['PATH']}"
    return {"HOME": "/home/you", "PATH": path, "TERM": "xterm-256color", "LANG": "C.UTF-8", "COLUMNS": str(COLUMNS)}


def session(room):
    """The content of the terminal."""
    written = []
    for command in SESSION:
        typed = command.replace("\n", "\n\x1b[2m>\x1b[0m")
        written.append(f"\x1b[1;32m$\x1b[0m {typed}\n{run(room, command)}\n")
    return "".join(written).rstrip()


def run(room, command):
    """The output of a command on its own terminal."""
    process, terminal = pty.fork()
    if process == 0:
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        command = [*inside(room), "sh", "-c", command]
        os.execvpe(command[0], command, environment())
    said = b""
    try:
        while read := os.read(terminal, 1 << 16):
            said += read
    except OSError:
        pass  # The process has exited and closed the terminal.
    _, status = os.waitpid(process, 0)
    said = said.decode().replace("\r\n", "\n")
    if status != 0:
        raise AssertionError(f"{command} failed: {said}")
    return said


def drawn(written):
    """Converts to HTML, with one span per color."""
    parts = [f"<span>{html.escape(part)}" for part in written.split("\x1b[0m")]
    text = "</span>".join(parts) + "</span>"
    return re.sub(r"\x1b\[([0-9;]+)m", lambda codes: f'</span><span class="c{codes[1].replace(";", " c")}">', text)


def main():
    Backend.words = "Hello! This is a simulated response; no model wrote it."
    backend_port = serve(Backend)
    browser = Chromium(BROWSER)
    try:
        with tempfile.TemporaryDirectory() as place:
            home = settle(Path(place), backend_port)
            own = {**environment(), "CODEX_PROXY_HOME": "", "CODEX_PROXY_ACCESS_TOKEN": ""}
            daemon, _, _ = start_daemon("codex-proxy", home, backend_port, "127.0.0.1:8787", inside(place), **own)
            fill(home / ".local/state/codex-proxy", keys=("", ""), latest=0)
            try:
                written = session(place)
            finally:
                daemon.terminate()
                daemon.wait(timeout=30)
            page = Path(place) / "terminal.html"
            page.write_text(PAGE.replace("SESSION", drawn(written)))
            browser.open(page.as_uri(), width=800, height=600)
            picture = FOLDER / "terminal.png"
            browser.picture(picture, sharp=2)
            picture.write_bytes(with_palette(browser, picture.read_bytes()))
    finally:
        browser.close()


main()
