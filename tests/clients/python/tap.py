"""A recording proxy between two programs: forwards all data and stores requests and responses."""

import http.client
import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

OF_ONE_CONNECTION = {"connection", "content-length", "host", "keep-alive", "transfer-encoding"}


class Exchange:
    """A request and its response. Header names are lowercase."""

    def __init__(self, method, path, headers, body):
        self.method, self.path, self.headers, self.body = method, path, headers, body
        self.status, self.answer_headers, self.answer = None, {}, b""

    def json(self):
        """The body, preserving the order of members and the spelling of numbers."""
        return json.loads(self.body, object_pairs_hook=Members, parse_int=str, parse_float=str)

    def events(self):
        """The data of each event of a stream."""
        lines = self.answer.decode().splitlines()
        return [line.removeprefix("data:").strip() for line in lines if line.startswith("data:")]


class Members(list):
    """The members of an object, in order."""

    def get(self, name):
        return next((value for own, value in self if own == name), None)

    def names(self):
        return [name for name, _ in self]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def pass_on(self):
        tap = self.server.tap
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = self.rfile.read(int(headers.get("content-length", 0)))
        exchange = Exchange(self.command, self.path, headers, body)
        tap.exchanges.append(exchange)
        upgrades = "upgrade" in headers
        dropped = OF_ONE_CONNECTION - ({"connection"} if upgrades else set())
        passed = {name: value for name, value in headers.items() if name not in dropped}
        server = http.client.HTTPConnection(tap.host, tap.port, timeout=60)
        server.request(self.command, self.path, body or None, passed)
        answer = server.getresponse()
        exchange.status = answer.status
        exchange.answer_headers = {name.lower(): value for name, value in answer.getheaders()}
        self.close_connection = True
        if answer.status == 101:
            self.tell(exchange, exchange.answer_headers)
            splice(self.connection, server.sock)
            return
        kept = {name: value for name, value in exchange.answer_headers.items() if name not in OF_ONE_CONNECTION}
        self.tell(exchange, {**kept, "connection": "close"})
        while piece := answer.read1(65536):
            exchange.answer += piece
            self.wfile.write(piece)

    def tell(self, exchange, headers):
        self.send_response_only(exchange.status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_):
        pass

    do_DELETE = do_GET = do_HEAD = do_POST = pass_on


def splice(one, other):
    """Forwards bytes in both directions until both sides have closed."""

    def copy(source, target):
        try:
            while piece := source.recv(65536):
                target.sendall(piece)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    back = threading.Thread(target=copy, args=(other, one))
    back.start()
    copy(one, other)
    back.join()


class Tap:
    """Listens on `url` and forwards to the address of another URL."""

    def __init__(self, target):
        address = target.split("//")[1].split("/")[0]
        self.host, port = address.rsplit(":", 1)
        self.port = int(port)
        self.exchanges = []
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.tap = self
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()

    def posts(self, path):
        return [exchange for exchange in self.exchanges if exchange.method == "POST" and path in exchange.path]
