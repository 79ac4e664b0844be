"""Shared parts of the checks of command-line clients: a working directory, and a daemon between two recorders.

`CLIENT_PROGRAMS` is the directory of the installed clients, `PROXY_BINARY` the daemon. A client runs with its own
home and without the environment of this process.
"""

import base64
import collections
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from tap import Tap

BASE_URL = sys.argv[1]
ROOT_URL = BASE_URL.removesuffix("/v1")
PROGRAMS = Path(os.environ["CLIENT_PROGRAMS"]) / "node_modules"
CLIENTS_PAGE = (Path(__file__).resolve().parents[3] / "docs" / "clients.md").read_text()
DEFAULT_URL = "http://127.0.0.1:8787"
LIMIT_SECONDS = 60
ACCOUNT_ID = "acct-1"


def program(client, pattern):
    """The client's program; exits with a note if there is none for this machine."""
    found = sorted(PROGRAMS.glob(pattern))
    if not found:
        print(f"skipped {client}: there is no program of it for this machine")
        sys.exit(0)
    return str(found[0])


def clients_page_block(language, word):
    """Returns the code block of docs/clients.md that contains a word."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```$", CLIENTS_PAGE, re.DOTALL | re.MULTILINE)
    return next(block for block in blocks if word in block)


class Workshop:
    """A home directory and a working directory."""

    def __enter__(self):
        self.directory = tempfile.TemporaryDirectory(prefix="workshop-")
        self.home = Path(self.directory.name) / "home"
        self.folder = Path(self.directory.name) / "folder"
        self.home.mkdir()
        self.folder.mkdir()
        self.write("note.txt", "old line\n")
        return self

    def __exit__(self, *_):
        self.directory.cleanup()

    def write(self, name, text):
        (self.folder / name).write_text(text)

    def read(self, name):
        return (self.folder / name).read_text()

    def run(self, command, environment):
        """The lines of the client's standard output; it must exit successfully and in time."""
        done = self.try_run(command, environment)
        assert done.returncode == 0, f"exit code {done.returncode}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
        return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]

    def try_run(self, command, environment):
        own = {"PATH": os.environ["PATH"], "HOME": str(self.home), "TMPDIR": str(self.home), "NO_PROXY": "127.0.0.1"}
        child = subprocess.Popen(
            command, cwd=self.folder, env={**own, **environment}, text=True, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        try:
            output, errors = child.communicate(timeout=LIMIT_SECONDS)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
        return subprocess.CompletedProcess(command, child.returncode, output, errors)


def connect(shop, client, flag, variables):
    """Runs `connect` for a client in the shop's home; `variables` lead to the settings and the run file of a daemon.

    `client` may have options of its own, as in "codex --gateway"."""
    done = shop.try_run([os.environ["PROXY_BINARY"], "connect", *client.split(), flag], variables)
    assert done.returncode == 0, f"{flag}: {done.stdout}{done.stderr}"
    return done.stdout


def token(**more):
    """An unsigned token in ChatGPT's format."""
    account = {"chatgpt_account_id": ACCOUNT_ID, "chatgpt_plan_type": "plus"}
    claims = {"exp": 4102444800, "https://api.openai.com/auth": account, **more}
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in ({}, claims)]
    return ".".join([*parts, "c2lnbmF0dXJl"])


# A daemon between two recorders, at the URL `root`; `variables` are those of its settings and its directory.
Daemon = collections.namedtuple("Daemon", "front behind root variables")


@contextlib.contextmanager
def daemon(settings, *flags):
    """A daemon with these environment variables; yields its root URL."""
    with tempfile.TemporaryDirectory(prefix="daemon-") as home:
        environment = {**os.environ, "CODEX_PROXY_HOME": home, **settings}
        command = [os.environ["PROXY_BINARY"], "serve", "--port", "0", *flags]
        process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
        try:
            ready = next(line for line in process.stderr if "/v1" in line)
            yield re.search(r"http://[^\s/]+", ready)[0]
        finally:
            process.terminate()
            process.communicate(timeout=30)


@contextlib.contextmanager
def between_taps(settings=None):
    """A daemon with the demo as its backend, and a recorder on each side."""
    with daemon_between_taps(**(settings or {})) as between:
        yield between.front, between.behind


@contextlib.contextmanager
def daemon_between_taps(**settings):
    """A daemon with the demo as its backend, and a recorder on each side. `settings` are environment variables."""
    with Tap(ROOT_URL) as behind, tempfile.TemporaryDirectory(prefix="daemon-") as home:
        variables = {
            **settings,
            "CODEX_PROXY_HOME": home,
        }
        own = {
            "CODEX_PROXY_ACCESS_TOKEN": token(),
            "CODEX_PROXY_UPSTREAM_URL": f"{behind.url}/backend-api/codex",
        }
        with daemon({**own, **variables}) as root, Tap(root) as front:
            yield Daemon(front, behind, root, variables)


LITE = {"CODEX_PROXY_UPSTREAM_BODY": "lite"}


def lite_demo():
    """The root URL of a demo whose requests all have the lite form."""
    return daemon(LITE, "--demo")
