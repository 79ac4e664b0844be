"""The content of the screenshots: a backend with responses and quota, and a month of usage."""

import json
import sqlite3
import threading
import time
from pathlib import Path

from bench import PATIENCE, Quiet


class Backend(Quiet):
    """Responds with delays, or waits for a signal at the start or in the middle; reports its quota."""

    used = (38, 61)
    words = "private words"
    may_go_on = threading.Event()

    def do_GET(self):
        if self.path.endswith("/wham/accounts/check"):
            account = {"id": "acct-1", "workspace_backend_origin": "NO_CONSTRAINT", "is_deactivated": False}
            return self.reply("application/json", json.dumps({"accounts": [account]}).encode())
        if not self.path.endswith("/wham/usage"):
            return self.send_error(404)
        hour, week = (
            {"used_percent": used, "limit_window_seconds": length, "reset_after_seconds": left}
            for used, length, left in zip(Backend.used, (18000, 604800), (9400, 270000))
        )
        limit = {"allowed": True, "limit_reached": False, "primary_window": hour, "secondary_window": week}
        self.reply("application/json", json.dumps({"plan_type": "plus", "rate_limit": limit}).encode())

    def do_POST(self):
        how = json.loads(self.body())["input"][-1]["content"][0]["text"]
        pace = float(how) if how[0].isdigit() else 0
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        response = {"id": "resp_1", "created_at": 1700000000, "model": "gpt-6.2-sol"}
        self.event({"type": "response.created", "response": response})
        time.sleep(pace)
        if how == "later":
            Backend.may_go_on.wait(PATIENCE)
        item = {"type": "message", "id": "msg_1", "role": "assistant", "content": []}
        self.event({"type": "response.output_item.added", "output_index": 0, "item": item})
        place = {"output_index": 0, "content_index": 0, "item_id": "msg_1"}
        self.event({"type": "response.output_text.delta", **place, "delta": Backend.words})
        time.sleep(3 * pace)
        if how in ("slowly", "leaves"):
            Backend.may_go_on.wait(PATIENCE)
        usage = {"input_tokens": 18432, "input_tokens_details": {"cached_tokens": 16100}, "output_tokens": 743,
                 "output_tokens_details": {"reasoning_tokens": 410}, "total_tokens": 19175}
        self.event({"type": "response.completed", "response": {**response, "status": "completed", "usage": usage}})

    def event(self, event):
        try:
            self.wfile.write(f"data: {json.dumps(event)}\n\n".encode())
        except BrokenPipeError:
            pass  # Its client has left.


def fill(folder, keys=("desk", "night jobs"), latest=1):
    """A month of usage up to this many days ago, in the daemon's format."""
    today = int(time.time() // 86400)
    with sqlite3.connect(Path(folder) / "usage.sqlite3", timeout=PATIENCE) as store:
        for back in range(latest, 30):
            weight = (back * 5 + 3) % 13 if back % 7 not in (1, 2) else 1
            rows = [(keys[0], "gpt-6.2-sol", 41 * weight, 310_000 * weight), (keys[1], "gpt-6-luna", 9 * weight, 52_000 * weight)]
            for key, model, requests, tokens in rows:
                row = (today - back, key, model, requests, tokens, tokens * 7 // 10, tokens // 22, tokens // 50)
                store.execute("INSERT INTO totals VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
