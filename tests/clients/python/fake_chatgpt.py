"""A small ChatGPT backend that records requests, and a fabricated login of the Codex CLI for it."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tap import Exchange
from workshop import ACCOUNT_ID, token

# Settings that send all requests of a signed-in client to the fake. The client accepts http only with the path /v1.
SETTINGS = 'chatgpt_base_url = "{url}/backend-api"\nopenai_base_url = "{url}/v1"\n'
MESSAGE = {
    "type": "message",
    "id": "msg_1",
    "role": "assistant",
    "status": "completed",
    "content": [{"type": "output_text", "text": "hello", "annotations": []}],
}
RESPONSE = {"id": "resp_1", "object": "response", "created_at": 1700000000, "model": "fake"}
USAGE = {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}
EVENTS = [
    {"type": "response.created", "response": {**RESPONSE, "status": "in_progress", "output": []}},
    {"type": "response.output_item.done", "output_index": 0, "item": MESSAGE},
    {"type": "response.completed", "response": {**RESPONSE, "status": "completed", "output": [MESSAGE], "usage": USAGE}},
]


def login():
    """The content of auth.json of a client that is signed in with ChatGPT."""
    access = token(email="ada@example.invalid")
    tokens = {"id_token": access, "access_token": access, "refresh_token": "fabricated", "account_id": ACCOUNT_ID}
    return json.dumps({"auth_mode": "chatgpt", "tokens": tokens, "last_refresh": "2099-01-01T00:00:00Z"})


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self):
        fake = self.server.fake
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = self.rfile.read(int(headers.get("content-length", 0)))
        fake.exchanges.append(Exchange(self.command, self.path, headers, body))
        if "upgrade" in headers:
            self.send(426, b"{}")
        elif self.path.startswith("/v1/models") and fake.catalogue:
            self.send(200, fake.catalogue)
        elif self.path == "/v1/responses":
            stream = "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in EVENTS)
            self.send(200, stream.encode(), "text/event-stream")
        else:
            self.send(404, b"{}")

    def send(self, status, body, kind="application/json"):
        self.send_response_only(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass

    do_GET = do_POST = answer


class FakeChatGpt:
    """Listens on `url`. Without a catalog, the client uses the one of its release."""

    def __init__(self, catalogue=None):
        self.catalogue = catalogue
        self.exchanges = []
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.fake = self
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

    def first_request(self):
        """The body of the first request for a response."""
        return next(json.loads(one.body) for one in self.exchanges if (one.method, one.path) == ("POST", "/v1/responses"))
