"""The tools of the Codex CLI with the settings of `connect codex --write`, against the demo. Usage: codex_tools.py BASE_URL

The client has the tools that it has with ChatGPT itself, and they work: web search, image generation, edits, compaction.
"""

import base64
import contextlib
import json
import os
import subprocess
import urllib.request

from fake_chatgpt import SETTINGS, FakeChatGpt, login
from harness import BASE_URL, NO_MODEL, red_dot, run
from workshop import Workshop, connect, daemon_between_taps, program

CODEX = program("codex tools", ".bin/codex")
LITE, CLASSIC = "gpt-6.2-sol", "gpt-5.5"
# Disables requests that don't belong to a turn, and a compression that the checks can't read.
QUIET = "[analytics]\nenabled = false\n\n[features]\napps = false\nplugins = false\nenable_request_compression = false\n"
WEBSOCKETS = ("wire_api =", "supports_websockets = true\nwire_api =")
KEY = "sk-of-this-check"
PATCH = "*** Begin Patch\n*** Update File: note.txt\n@@\n-old line\n+new line\n*** End Patch"
EDIT = f"Edit the note.\ndemo:call functions.exec text(await tools.apply_patch(`{PATCH}`))"
SEARCH = "Search for the Rust release"
DRAW = "Draw a red fox"
# Fewer tokens than the first request of a conversation has, so that the next turn begins with a compaction.
COMPACTS = ["-c", "model_auto_compact_token_limit=5000"]
PNG = b"\x89PNG\r\n\x1a\n"


class Client:
    """A Codex CLI with the settings that `connect` wrote, changed to the address of the recorder in front of the daemon."""

    def __init__(self, shop, daemon, changes=(), auth=None, recipe="codex"):
        self.shop, self.folder = shop, shop.home / ".codex"
        self.folder.mkdir()
        self.config = self.folder / "config.toml"
        self.config.write_text(QUIET)
        if auth:
            (self.folder / "auth.json").write_text(auth)
        connect(shop, recipe, "--write", daemon.variables)
        settings = self.config.read_text()
        for old, new in [(daemon.root, daemon.front.url), *changes]:
            assert old in settings, (old, settings)
            settings = settings.replace(old, new)
        self.config.write_text(settings)

    def run(self, prompt, *options, resumes=False):
        """Runs a turn. Returns the text of the last message."""
        return turn(self.shop, prompt, *options, resumes=resumes)

    def images(self):
        return [file.read_bytes() for file in self.folder.glob("generated_images/*/*.png")]

    def rollout(self):
        """The client's record of the conversation."""
        return "".join(file.read_text() for file in self.folder.glob("sessions/**/*.jsonl"))


def turn(shop, prompt, *options, resumes=False):
    command = [CODEX, "exec", *(["resume", "--last"] if resumes else []), "--json", "--skip-git-repo-check"]
    said = shop.run([*command, "--dangerously-bypass-approvals-and-sandbox", *options, "--", prompt], {})
    assert said[-1]["type"] == "turn.completed", said
    return [line["item"] for line in said if line["type"] == "item.completed"][-1]["text"]


@contextlib.contextmanager
def client(changes=(), auth=None, recipe="codex", **variables):
    with Workshop() as shop, daemon_between_taps(**variables) as daemon:
        yield Client(shop, daemon, changes, auth, recipe), daemon


def gateway_client(changes=(), **variables):
    """A signed-in client that uses its own login."""
    variables["CODEX_PROXY_UPSTREAM_CREDENTIALS"] = "client"
    return client(changes, login(), "codex --gateway", **variables)


def tools(body):
    listed = [tool for item in body["input"] if item["type"] == "additional_tools" for tool in item["tools"]]
    return listed + body.get("tools", [])


def tools_with_chatgpt(model, catalogue):
    """The tools of a signed-in client with its built-in provider."""
    with Workshop() as shop, FakeChatGpt(catalogue) as fake:
        (shop.home / ".codex").mkdir()
        (shop.home / ".codex" / "config.toml").write_text(SETTINGS.format(url=fake.url) + QUIET)
        (shop.home / ".codex" / "auth.json").write_text(login())
        turn(shop, "Hello", "--model", model)
        return tools(fake.first_request())


def tools_with_us(model, auth):
    """The tools that arrive at the demo."""
    with client(auth=auth) as (codex, daemon):
        assert NO_MODEL in codex.run("Hello", "--model", model)
        sent = [json.loads(one.body) for one in daemon.behind.posts("/backend-api/codex/responses")]
        assert all("authorization" not in one.headers for one in daemon.front.exchanges), "it keeps its login"
        return tools(sent[0])


def are_the_same(model, auth, catalogue):
    expected, found = tools_with_chatgpt(model, catalogue), tools_with_us(model, auth)
    assert found == expected, f"{json.dumps(found)[:2000]}\n{json.dumps(expected)[:2000]}"
    assert "image_gen" in json.dumps(found) and "web" in json.dumps(found)


def has_the_tools_that_it_has_with_chatgpt():
    with urllib.request.urlopen(f"{BASE_URL}/models?client_version=0.171.0", timeout=30) as answer:
        catalogue = answer.read()
    for model in [LITE, CLASSIC]:
        are_the_same(model, login(), catalogue)


def has_them_without_a_login_too():
    for model in [LITE, CLASSIC]:
        are_the_same(model, None, None)


def searches(codex, daemon):
    assert 'Simulated result 1 for \\"Search for the Rust release\\"' in json.dumps(codex.run(SEARCH))
    [sent], [received] = daemon.front.posts("/alpha/search"), daemon.behind.posts("/alpha/search")
    assert (sent.status, sent.body) == (200, received.body), sent.status
    assert json.loads(sent.body)["commands"] == {"search_query": [{"q": SEARCH}]}, sent.body
    assert "x-openai-actor-authorization" not in received.headers


def generates_an_image(codex, daemon):
    assert "I see 1 image." in codex.run(DRAW)
    [sent], [received] = daemon.front.posts("/images/generations"), daemon.behind.posts("/images/generations")
    assert (sent.status, sent.body) == (200, received.body), sent.status
    image = base64.b64decode(json.loads(sent.answer)["data"][0]["b64_json"])
    assert image.startswith(PNG) and codex.images() == [image]


def searches_the_web():
    with client() as (codex, daemon):
        searches(codex, daemon)
        [sent] = daemon.front.posts("/alpha/search")
        assert "x-openai-actor-authorization" in sent.headers, "which stays here"


def generates_an_image_and_saves_it():
    for model in [LITE, CLASSIC]:
        with client(changes=[(f'model = "{LITE}"', f'model = "{model}"')]) as (codex, daemon):
            generates_an_image(codex, daemon)


def edits_an_image():
    with client() as (codex, daemon):
        attached = codex.shop.folder / "dot.png"
        attached.write_bytes(base64.b64decode(red_dot().split(",")[1]))
        assert "I see 1 image." in codex.run("Draw a hat on it", f"--image={attached}")
        [sent] = daemon.front.posts("/images/edits")
        assert sent.status == 200, sent.answer
        assert [image["image_url"][:22] for image in json.loads(sent.body)["images"]] == ["data:image/png;base64,"]
        assert len(codex.images()) == 1


def edits_a_file_and_compacts():
    with client() as (codex, daemon):
        edits_and_compacts(codex)
        asked = [json.loads(one.body)["input"] for one in daemon.behind.posts("/backend-api/codex/responses")]
        kinds = [[item["type"] for item in items] for items in asked]
        [trigger] = [index for index, kind in enumerate(kinds) if kind[-1] == "compaction_trigger"]
        assert "compaction" in kinds[trigger + 1], kinds


def edits_and_compacts(codex):
    assert NO_MODEL in codex.run(EDIT)
    assert codex.shop.read("note.txt") == "new line\n"
    assert NO_MODEL in codex.run("Hello again", *COMPACTS, resumes=True)
    assert '"type":"compaction"' in codex.rollout(), "the backend compacts"


def does_all_that_over_a_websocket():
    with client(changes=[WEBSOCKETS]) as (codex, daemon):
        searches(codex, daemon)
        generates_an_image(codex, daemon)
        edits_and_compacts(codex)
        assert not daemon.front.posts("/codex/responses"), "all responses came over WebSockets"
        assert {one.status for one in daemon.front.exchanges if "upgrade" in one.headers} == {101}


def works_with_a_client_key():
    for auth in [None, login()]:
        with client(auth=auth, CODEX_PROXY_API_KEYS=KEY) as (codex, daemon):
            assert f'x-api-key = "{KEY}"' in codex.config.read_text()
            searches(codex, daemon)
            generates_an_image(codex, daemon)


def takes_the_client_key_from_the_environment():
    header = f'x-api-key = "{KEY}"'
    table = 'x-unused = "x"\n\n[model_providers.codex-proxy.env_http_headers]\nx-api-key = "MY_PROXY_KEY"'
    with client(changes=[(header, table)], CODEX_PROXY_API_KEYS=KEY) as (codex, daemon):
        command = [CODEX, "exec", "--json", "--skip-git-repo-check", "--", "Hello"]
        said = codex.shop.run(command, {"MY_PROXY_KEY": KEY})
        assert said[-1]["type"] == "turn.completed", said


def asks_us_for_the_limits_of_the_account():
    with client(auth=login()) as (codex, daemon):
        settings = codex.config.read_text()
        codex.config.write_text(f'chatgpt_base_url = "{daemon.front.url}/backend-api"\n{settings}')
        assert NO_MODEL in codex.run("Hello")
        limits = call(codex, "account/rateLimits/read")["rateLimits"]
        assert (limits["primary"]["usedPercent"], limits["secondary"]["usedPercent"]) == (12, 3), limits
        assert "summary" in call(codex, "account/usage/read")


def keeps_its_own_login_in_gateway_mode():
    with gateway_client() as (codex, daemon):
        sends_its_login(codex, daemon)
        answers = [one.status for one in daemon.front.exchanges if "upgrade" in one.headers]
        assert answers and set(answers) == {101}, "the client uses a WebSocket, as with ChatGPT"
        connect(codex.shop, "codex --gateway", "--undo", daemon.variables)


def keeps_its_own_login_with_a_client_key_too():
    with gateway_client(CODEX_PROXY_API_KEYS=KEY) as (codex, daemon):
        sends_its_login(codex, daemon)
        keys = [one.headers.get("x-api-key") for one in daemon.behind.exchanges]
        assert set(keys) == {None}, "the key stays here"


def sends_its_login(codex, daemon):
    """Uses the tools; all requests arrive with the client's own token."""
    searches(codex, daemon)
    generates_an_image(codex, daemon)
    edits_and_compacts(codex)
    own = json.loads(login())["tokens"]
    for one in daemon.behind.exchanges:
        sent = (one.headers.get("authorization"), one.headers.get("chatgpt-account-id"))
        assert sent == (f"Bearer {own['access_token']}", own["account_id"]), (one.path, sent)


def call(codex, method):
    """The result of a call of the client's own server."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(codex.shop.home), "NO_PROXY": "127.0.0.1"}
    server = subprocess.Popen(
        [CODEX, "app-server"], cwd=codex.shop.folder, env=environment, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )
    try:
        client_info = {"name": "check", "title": "Check", "version": "1"}
        messages = [
            {"id": 1, "method": "initialize", "params": {"clientInfo": client_info}},
            {"method": "initialized"},
            {"id": 2, "method": method, "params": None},
        ]
        server.stdin.write("".join(f"{json.dumps(message)}\n" for message in messages))
        server.stdin.flush()
        answer = next(answer for answer in map(json.loads, server.stdout) if answer.get("id") == 2)
    finally:
        server.kill()
        server.communicate()
    assert "result" in answer, answer
    return answer["result"]


run(
    "codex tools",
    [
        has_the_tools_that_it_has_with_chatgpt,
        has_them_without_a_login_too,
        searches_the_web,
        generates_an_image_and_saves_it,
        edits_an_image,
        edits_a_file_and_compacts,
        does_all_that_over_a_websocket,
        works_with_a_client_key,
        takes_the_client_key_from_the_environment,
        asks_us_for_the_limits_of_the_account,
        keeps_its_own_login_in_gateway_mode,
        keeps_its_own_login_with_a_client_key_too,
    ],
)
