#!/usr/bin/env python3
"""Checks what web pages can do to the daemon, in a real browser. Usage: check.py BINARY BROWSER

Three pages send requests: one of a foreign origin, one whose host name is rebound to the daemon's address, and
one of an allowed origin. A test backend counts the requests that reach it.
Prints `ok …` or `FAILED …` for each check.
"""

import json
import os
import queue
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import bench
from bench import FLAGS, PATIENCE, Quiet, check, serve, start_daemon

BINARY, BROWSER = sys.argv[1:]
PAGES = Path(__file__).resolve().parent
EVENTS = [
    {"type": "response.created", "response": {"id": "resp_1", "created_at": 1700000000, "model": "gpt-5.5"}},
    {
        "type": "response.output_item.added",
        "output_index": 0,
        "item": {"type": "message", "id": "msg_1", "role": "assistant", "content": []},
    },
    {"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "item_id": "msg_1", "delta": "first "},
    None,
    {"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "item_id": "msg_1", "delta": "second"},
    {"type": "response.completed", "response": {"id": "resp_1", "created_at": 1700000000, "model": "gpt-5.5",
     "status": "completed", "usage": {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5}}},
]


class Backend(Quiet):
    """Counts model requests, and pauses in the middle of a response until the page has received its start."""

    asked = []
    may_go_on = threading.Event()

    def do_GET(self):
        self.send_error(404)

    def do_POST(self):
        body = self.body()
        Backend.asked.append(body)
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        for event in EVENTS:
            if event is None:
                if b"slowly" in body and not Backend.may_go_on.wait(PATIENCE):
                    return
            else:
                self.wfile.write(f"data: {json.dumps(event)}\n\n".encode())


class Site(Quiet):
    """Serves the pages, and receives their reports."""

    reports = queue.Queue()

    def do_GET(self):
        page = PAGES / Path(self.path.split("?")[0]).name
        if page.suffix in (".html", ".js") and page.exists():
            self.reply("text/html" if page.suffix == ".html" else "text/javascript", page.read_bytes())
        else:
            self.send_error(404)

    def do_POST(self):
        body = self.body()
        if self.path == "/begun":
            Backend.may_go_on.set()
        else:
            Site.reports.put(json.loads(body))
        try:
            self.reply("text/plain", b"")
        except BrokenPipeError:
            pass  # The browser is gone as soon as its report is here.


def rebinding(site_port, daemon_port):
    """A host name that resolves to a page first and then to the daemon (DNS rebinding); bytes are forwarded."""

    def relay(client):
        start = client.recv(65536)
        target = socket.create_connection(("127.0.0.1", site_port if start.startswith(b"GET /attack.") else daemon_port))
        target.sendall(start)
        threading.Thread(target=pump, args=(client, target), daemon=True).start()
        pump(target, client)

    def pump(source, sink):
        try:
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def accept(listener):
        while True:
            client, _ = listener.accept()
            threading.Thread(target=relay, args=(client,), daemon=True).start()

    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=accept, args=(listener,), daemon=True).start()
    return listener.getsockname()[1]


def visit(url, rules):
    """Opens a page in a new browser and returns its report."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [BROWSER, *FLAGS, f"--user-data-dir={profile}", f"--host-resolver-rules={rules}", url]
        browser = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
            env={**os.environ, "HOME": profile},
        )
        try:
            return Site.reports.get(timeout=PATIENCE)
        except queue.Empty:
            return None
        finally:
            os.killpg(browser.pid, signal.SIGKILL)
            browser.wait()


def main():
    backend_port, site_port = serve(Backend), serve(Site)
    with tempfile.TemporaryDirectory() as home:
        daemon, port, said = start_daemon(
            BINARY, home, backend_port, CODEX_PROXY_ALLOWED_ORIGINS=f"http://allowed.invalid:{site_port}"
        )
        try:
            pages(port, site_port, rebinding(site_port, port))
        finally:
            daemon.terminate()
            daemon.wait(timeout=30)
        if bench.failures:
            print(f"the daemon said:\n{''.join(said)}")


def pages(port, site_port, relay_port):
    rules = f"MAP rebound.invalid 127.0.0.1:{relay_port}, MAP *.invalid 127.0.0.1"
    base, home = f"http://127.0.0.1:{port}", f"http://home.invalid:{site_port}"

    report = visit(f"http://evil.invalid:{site_port}/attack.html?{base},{home}", rules)
    check("a foreign page tries everything", report is not None and len(report) >= 14, report)
    seen = [trial for trial in report or [] if trial["seen"]]
    check("a foreign page reads nothing", report is not None and not seen, seen)
    check("a foreign page reaches no model", Backend.asked == [], Backend.asked)

    report = visit(f"http://rebound.invalid:{port}/attack.html?http://rebound.invalid:{port},{home}", rules)
    check("a rebinding page tries everything", report is not None and len(report) >= 14, report)
    refused = [trial for trial in report or [] if trial["name"].startswith("fetch") and trial["seen"] == 403]
    check("a rebinding page is answered by the daemon itself", len(refused) >= 5, report)
    served = [trial for trial in report or [] if trial["seen"] not in (0, 403)]
    check("a rebinding page is refused everything", report is not None and not served, served)
    check("a rebinding page reaches no model", Backend.asked == [], Backend.asked)

    report = visit(f"http://allowed.invalid:{site_port}/allowed.html?{base}", rules) or {}
    check("an allowed page lists models", report.get("models") == 200, report)
    check("an allowed page gets an answer", report.get("document") == "first second", report)
    check("an allowed page reads our headers", str(report.get("request_id")).startswith("req_"), report)
    check("an allowed page reads a stream as it comes", report.get("stream") == "first second", report)
    check("an allowed page reads errors", report.get("error") == 400, report)
    check("an allowed page reaches the model", len(Backend.asked) == 2, Backend.asked)


main()
bench.finish()
