"""A headless Chromium, controlled over its debugging pipe."""

import base64
import fcntl
import json
import os
import queue
import signal
import subprocess
import tempfile
import threading
import time

from bench import FLAGS, PATIENCE


class Chromium:
    """One browser, with one tab at a time."""

    def __init__(self, browser):
        self.profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        to_read, to_write = os.pipe(), os.pipe()
        # High numbers, so that the shell can move both to 3 and 4.
        reads, writes = (fcntl.fcntl(end, fcntl.F_DUPFD, 50) for end in (to_read[0], to_write[1]))
        os.close(to_read[0])
        os.close(to_write[1])
        command = f'exec "$0" "$@" 3<&{reads} 4>&{writes}'
        flags = [*FLAGS, "--hide-scrollbars", f"--user-data-dir={self.profile.name}", "--remote-debugging-pipe", "about:blank"]
        self.process = subprocess.Popen(
            ["bash", "-c", command, browser, *flags], pass_fds=(reads, writes), start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env={**os.environ, "HOME": self.profile.name},
        )
        os.close(reads)
        os.close(writes)
        self.input = os.fdopen(to_read[1], "wb", buffering=0)
        self.output = os.fdopen(to_write[0], "rb", buffering=0)
        self.number = 0
        self.session = None
        self.messages = queue.Queue()
        self.events = []
        self.passwords = []
        self.password = None
        threading.Thread(target=self._listen, daemon=True).start()

    def close(self):
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.profile.cleanup()

    def _listen(self):
        rest = b""
        while data := self.output.read(1 << 16):
            *whole, rest = (rest + data).split(b"\0")
            for message in whole:
                self.messages.put(json.loads(message))

    def call(self, method, **parameters):
        """Calls a method of the browser and returns its result; events received meanwhile are queued."""
        number = self._send(method, parameters)
        until = time.monotonic() + PATIENCE
        while True:
            message = self.messages.get(timeout=max(0.01, until - time.monotonic()))
            if message.get("id") == number:
                if "error" in message:
                    raise AssertionError(f"{method}: {message['error']}")
                return message["result"]
            self._note(message)

    def _send(self, method, parameters):
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        self.input.write(json.dumps(message).encode() + b"\0")
        return self.number

    def _note(self, message):
        method, parameters = message.get("method"), message.get("params", {})
        if method == "Fetch.authRequired":
            self.passwords.append(parameters["authChallenge"])
            answer = {"response": "CancelAuth"}
            if self.password is not None:
                answer = {"response": "ProvideCredentials", "username": "me", "password": self.password}
            self._send("Fetch.continueWithAuth", {"requestId": parameters["requestId"], "authChallengeResponse": answer})
        elif method == "Fetch.requestPaused":
            self._send("Fetch.continueRequest", {"requestId": parameters["requestId"]})
        elif method:
            self.events.append((method, parameters))

    def open(self, url, width=1100, height=900, scheme="light", password=None):
        """Opens a page in a new tab, and waits until it is loaded."""
        self.session, self.events, self.passwords, self.password = None, [], [], password
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network", "DOM", "Accessibility"):
            self.call(f"{domain}.enable")
        if password is not None:
            self.call("Fetch.enable", handleAuthRequests=True)
        self.view(width, height, scheme)
        self.call("Page.navigate", url=url)
        self.until("document.readyState === 'complete' && location.href !== 'about:blank'")

    def view(self, width, height, scheme):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def value(self, expression):
        """Returns the result of a script."""
        reported = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in reported:
            raise AssertionError(f"{expression}: {reported['exceptionDetails']}")
        return reported["result"].get("value")

    def until(self, expression, limit=PATIENCE):
        """Waits until a script returns true; returns whether it did."""
        end = time.monotonic() + limit
        while time.monotonic() < end:
            try:
                if self.value(expression):
                    return True
            except AssertionError as error:
                if "context" not in str(error):
                    raise
            time.sleep(0.05)
        return False

    def press(self, key, code):
        for kind in ("rawKeyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code)

    def complaints(self):
        """The console messages."""
        logged = [reported["entry"]["text"] for method, reported in self.events if method == "Log.entryAdded"]
        thrown = [str(reported) for method, reported in self.events if method == "Runtime.exceptionThrown"]
        printed = [str(reported["args"]) for method, reported in self.events if method == "Runtime.consoleAPICalled"]
        return logged + thrown + printed

    def addresses(self):
        """The requested URLs."""
        return [reported["request"]["url"] for method, reported in self.events if method == "Network.requestWillBeSent"]

    def picture(self, path, height=None, sharp=1):
        """A screenshot of the page or of a part of it, with this device scale factor."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": min(height or size["height"], size["height"]), "scale": sharp}
        data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)["data"]
        path.write_bytes(base64.b64decode(data))
