#!/usr/bin/env python3
"""The daemon's own page in a real browser. Usage: page.py BINARY BROWSER [FOLDER]

Checks that it loads without errors, refreshes itself, sends requests only to the daemon, is usable with the
keyboard and on a narrow screen, and is readable in light and dark mode. With a folder, screenshots of its
states are written there. Prints `ok …` or `FAILED …` for each check.
"""

import http.client
import json
import sys
import tempfile
import threading
from pathlib import Path

import bench
from bench import PATIENCE, check, serve, start_daemon
from chromium import Chromium
from simulated import Backend, fill

BINARY, BROWSER = sys.argv[1:3]
FOLDER = Path(sys.argv[3]) if len(sys.argv) > 3 else None
READABLE = (Path(__file__).resolve().parent / "page.js").read_text()
KEYS = """
[[keys]]
name = "desk"
key = "sk-desk"
[[keys]]
name = "night jobs"
key = "sk-night"
"""
CLIENTS = [
    ("gpt-6.2-sol", "claude-cli/2.1.0 (external, cli)", "sk-desk", "0.3"),
    ("gpt-6-luna", "OpenAI/Python 2.8.0", "sk-night", "0.1"),
    ("gpt-6.2-sol", "opencode/1.2.0", "sk-desk", "leaves"),
    ("gpt-6.2-sol", "codex_cli_rs/0.150.0 (Debian)", "sk-desk", "0.2"),
    ("gpt-6-luna", "OpenAI/Python 2.8.0", "sk-night", "slowly"),
    ("gpt-6.2-sol", "claude-cli/2.1.0 (external, cli)", "sk-desk", "slowly"),
    ("gpt-6.2-sol", "Zed/0.211.0", "sk-desk", "later"),
]


def ask(port, model, agent, key, how):
    """Sends requests in the background; waits for responses that end by themselves."""

    def run():
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        body = {"model": model, "stream": True, "messages": [{"role": "user", "content": how}]}
        headers = {"content-type": "application/json", "user-agent": agent, "authorization": f"Bearer {key}"}
        connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
        answer = connection.getresponse()
        answer.read1() if how == "leaves" else answer.read()
        connection.close()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    if how not in ("slowly", "later"):
        thread.join(PATIENCE)


def picture(browser, name, **limits):
    if FOLDER:
        browser.picture(FOLDER / f"{name}.png", **limits)


def check_quiet(browser, base, name):
    check(f"the page {name} has nothing to complain about", browser.complaints() == [], browser.complaints())
    addresses = [address for address in browser.addresses() if not address.startswith(("data:", "about:"))]
    asked = addresses != [] and set(addresses) == {f"{base}/"}
    check(f"the page {name} asks for nothing but itself", asked, set(addresses))


def check_readable(browser, name):
    faint = browser.value(READABLE)
    check(f"the page can be read in {name}", faint == [], faint)


def check_keyboard(browser):
    reached = []
    for _ in range(40):
        browser.press("Tab", 9)
        reported = browser.value(
            "(() => { const at = document.activeElement, style = getComputedStyle(at);"
            " return [at.nodeName, (at.getAttribute('aria-label') ?? at.textContent).trim(), style.outlineStyle]; })()"
        )
        if reported[0] == "BODY" or reported in reached:
            break
        reached.append(reported)
    wanted = browser.value("document.querySelectorAll('a, button, summary').length")
    check("everything is reached with the keyboard", len(reached) == wanted and wanted >= 11, (wanted, reached))
    check("the way past the navigation comes first", reached[0][1] == "Skip to the content", reached[:1])
    unseen = [reported for reported in reached if reported[2] == "none"]
    check("what has the focus is seen", unseen == [], unseen)


def check_tree(browser):
    """The accessibility tree."""
    nodes = [node for node in browser.call("Accessibility.getFullAXTree")["nodes"] if not node.get("ignored")]
    named = [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in nodes]
    roles = [role for role, _ in named]
    for role in ("banner", "navigation", "main", "contentinfo", "status"):
        check(f"a screen reader finds the {role}", roles.count(role) == 1, roles)
    for role, least in (("meter", 2), ("table", 4), ("region", 6), ("heading", 11), ("image", 1), ("button", 4)):
        names = [name for own, name in named if own == role]
        check(f"each {role} has a name", len(names) >= least and all(names), names)


def check_fresh(browser, port):
    browser.value("document.querySelector('#days summary').click()")
    browser.value("document.querySelector('#days summary').focus()")
    came = browser.until("document.querySelector('#requests').textContent.includes('3 under way')", 15)
    check("requests appear without a reload", came, browser.value("document.querySelector('#requests').textContent"))
    shown = browser.value("document.querySelector('#requests').innerText")
    for part in ("answering for", "waiting for", "Claude Code, key desk, chat", "completed in", "client left", "16.1k cached"):
        check(f"requests are shown: {part}", part in shown, shown)
    check("what is answered is not shown", "private words" not in browser.value("document.documentElement.outerHTML"))
    kept = browser.value("document.querySelector('#days').open && document.activeElement.nodeName")
    check("what was opened stays open, and the focus where it was", kept == "SUMMARY", kept)
    browser.value("document.querySelector('#days summary').click(); document.activeElement.blur()")


def check_narrow(browser):
    for width in (320, 390):
        browser.view(width, 844, "light")
        wide = browser.value("document.documentElement.scrollWidth")
        check(f"{width} pixels are wide enough", wide <= width, wide)
    picture(browser, "narrow")


def walk(browser, port):
    base = f"http://127.0.0.1:{port}"
    browser.open(f"{base}/", password="wrong")
    browser.password = None
    asked = browser.passwords
    check("a browser is asked for a key", asked != [] and asked[0]["scheme"] == "basic", asked)

    browser.open(f"{base}/", password="sk-desk")
    came = browser.until("document.querySelector('meter') !== null", 15)
    check("the key as the password opens the page", came, browser.value("document.body.innerText"))
    for client in CLIENTS:
        ask(port, *client)
    check_keyboard(browser)
    check_fresh(browser, port)
    check_quiet(browser, base, "in use")
    check_readable(browser, "light")
    check_tree(browser)
    picture(browser, "light")
    picture(browser, "light-top", height=866)
    browser.view(1100, 900, "dark")
    ground = browser.value("getComputedStyle(document.body).backgroundColor")
    check("a dark scheme is dark", ground == "rgb(15, 21, 27)", ground)
    check_readable(browser, "dark")
    picture(browser, "dark")
    picture(browser, "dark-top", height=866)
    check_narrow(browser)
    browser.view(1100, 900, "light")
    Backend.may_go_on.set()
    ended = browser.until("document.querySelector('#requests').textContent.includes('0 under way')", 15)
    check("requests that end are seen to", ended, browser.value("document.querySelector('#requests').innerText"))
    browser.value("(() => { const made = document.createElement('script'); made.textContent = 'window.ran = true';"
                  " document.body.append(made); })()")
    check("the policy lets no other script run", browser.value("window.ran") is None)


def main():
    backend_port = serve(Backend)
    browser = Chromium(BROWSER)
    try:
        with tempfile.TemporaryDirectory() as home:
            (Path(home) / "config.toml").write_text(KEYS)
            # Screenshots show the default port.
            daemon, port, said = start_daemon(BINARY, home, backend_port, "127.0.0.1:8787" if FOLDER else "127.0.0.1:0")
            fill(home)
            try:
                walk(browser, port)
            finally:
                daemon.terminate()
                daemon.wait(timeout=30)
            gone = browser.until("document.querySelector('#status').textContent.includes('does not answer')", 15)
            check("it says when the proxy is gone", gone)
        states(browser, backend_port)
    finally:
        browser.close()
    if bench.failures:
        print(f"the daemon said:\n{''.join(said)}")


def states(browser, backend_port):
    """Pages of daemons with other settings."""
    Backend.used = (93, 81)
    for name, part, more in (
        ("nearly-used-up", "nearly used up", {}),
        ("not-signed-in", "codex-proxy login", {"CODEX_PROXY_ACCESS_TOKEN": ""}),
    ):
        with tempfile.TemporaryDirectory() as home:
            daemon, port, _ = start_daemon(BINARY, home, backend_port, **more)
            try:
                base = f"http://127.0.0.1:{port}"
                browser.open(f"{base}/")
                text = browser.value("document.body.innerText")
                check(f"the page {name} says so", part in text, text)
                check_quiet(browser, base, name)
                check_readable(browser, f"light, {name}")
                picture(browser, name)
                browser.view(1100, 900, "dark")
                check_readable(browser, f"dark, {name}")
            finally:
                daemon.terminate()
                daemon.wait(timeout=30)


main()
bench.finish()
