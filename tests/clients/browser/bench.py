"""Shared parts of the browser checks: a small server, a daemon, and the count of failures."""

import base64
import json
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PATIENCE = 60
FLAGS = (
    "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking"
    " --disable-component-update --disable-sync --disable-dev-shm-usage --disable-extensions"
).split()

failures = 0


def check(name, holds, detail=""):
    global failures
    failures += 0 if holds else 1
    print(f"ok browser {name}" if holds else f"FAILED browser {name}: {detail}", flush=True)


class Quiet(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.0"

    def log_message(self, *_):
        pass

    def body(self):
        return self.rfile.read(int(self.headers.get("content-length", 0)))

    def reply(self, kind, body):
        self.send_response(200)
        self.send_header("content-type", kind)
        self.end_headers()
        self.wfile.write(body)


def serve(handler):
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_address[1]


def access_token():
    part = lambda value: base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()
    claims = {"exp": int(time.time()) + 86400, "https://api.openai.com/auth": {"chatgpt_account_id": "acct-1"}}
    return f"{part({'alg': 'none'})}.{part(claims)}.c2ln"


def start_daemon(binary, home, backend_port, listen="127.0.0.1:0", before=(), **more):
    """A daemon with its own home; `before` is a command prefix, `more` are environment variables."""
    environment = {
        "CODEX_PROXY_HOME": home,
        "CODEX_PROXY_ACCESS_TOKEN": access_token(),
        "CODEX_PROXY_UPSTREAM_URL": f"http://127.0.0.1:{backend_port}/backend-api/codex",
        "CODEX_PROXY_AUTH_URL": "http://127.0.0.1:9",
        **more,
    }
    daemon = subprocess.Popen(
        [*before, binary, "serve", "--listen", listen], env=environment, stderr=subprocess.PIPE, text=True
    )
    said = []
    for line in daemon.stderr:
        said.append(line)
        if "is ready" in line:
            threading.Thread(target=said.extend, args=(daemon.stderr,), daemon=True).start()
            port = int(line.split("http://127.0.0.1:")[1].split("/")[0])
            return daemon, port, said
    raise AssertionError(f"the daemon did not start: {''.join(said)}")


def finish():
    """Exits with the result of the checks."""
    sys.exit(1 if failures else 0)
