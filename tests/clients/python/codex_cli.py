"""The Codex CLI, headless, against the demo. Usage: codex_cli.py BASE_URL"""

import json
import urllib.request

from harness import NO_MODEL, run
from tap import Tap
from workshop import BASE_URL, DEFAULT_URL, ROOT_URL, Workshop, between_taps, program, clients_page_block

CODEX = program("codex cli", ".bin/codex")
PATCH = "*** Begin Patch\n*** Update File: note.txt\n@@\n-old line\n+new line\n*** End Patch"
LOOK = 'demo:call exec_command {"cmd":"cat note.txt"}'
# Models that take requests in the classic form, and in the lite form, where tools are called in a script.
CLASSIC = ("gpt-5.5", f"Edit the note.\ndemo:call apply_patch {PATCH}\n{LOOK}")
LITE = ("gpt-6.2-sol", f"Edit the note.\ndemo:call functions.exec text(await tools.apply_patch(`{PATCH}`))")
# Disable telemetry, which it would wait for at exit.
QUIET = "\n[analytics]\nenabled = false\n"
PATH = "/backend-api/codex"
MEANT_FOR_THE_BACKEND = ("originator", "session-id", "thread-id")
MEANT_FOR_THE_CLIENT = "x-openai-actor-authorization"


def edit(root, task, path=PATH, more="", models=None):
    """Edits a file with the settings of docs/clients.md."""
    model, prompt = task
    settings = clients_page_block("toml", "model_providers")
    for old, new in [(DEFAULT_URL + PATH, root + path), ("wire_api =", f"{more}wire_api =")]:
        assert old in settings, settings
        settings = settings.replace(old, new)
    settings += QUIET
    with Workshop() as shop:
        (shop.home / ".codex").mkdir()
        if models:
            shop.write("models.json", models)
            settings = f"model_catalog_json = {json.dumps(str(shop.folder / 'models.json'))}\n{settings}"
        (shop.home / ".codex" / "config.toml").write_text(settings)
        command = [CODEX, "exec", "--json", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox"]
        said = shop.run([*command, "--model", model, prompt], {})
        assert shop.read("note.txt") == "new line\n", shop.read("note.txt")
    assert [line["type"] for line in said][-1] == "turn.completed", said
    items = [line["item"] for line in said if line["type"] == "item.completed"]
    assert [item["status"] for item in items if item["type"] == "file_change"] == ["completed"], items
    reported = items[-1]["text"]
    assert NO_MODEL in reported and "returned" in reported, reported


def edits_a_file():
    edit(ROOT_URL, CLASSIC)


def edits_a_file_in_the_lite_form():
    edit(ROOT_URL, LITE)


def works_with_the_base_url_of_other_clients():
    edit(ROOT_URL, CLASSIC, path="/v1")


def our_models():
    with urllib.request.urlopen(f"{BASE_URL}/models?client_version=0.171.0", timeout=30) as answer:
        return answer.read().decode()


def understands_our_list_of_models():
    edit(ROOT_URL, CLASSIC, models=our_models())


def searches_for_tools_in_the_lite_form_without_scripts():
    catalogue = json.loads(our_models())
    for model in catalogue["models"]:
        model["use_responses_lite"] = True
    with Tap(ROOT_URL) as tap:
        edit(tap.url, CLASSIC, models=json.dumps(catalogue))
    first = json.loads(tap.posts("/responses")[0].body)
    [tools] = [item["tools"] for item in first["input"] if item["type"] == "additional_tools"]
    assert [tool["execution"] for tool in tools if tool["type"] == "tool_search"] == ["client"], tools


def edits_a_file_over_a_websocket_or_at_once_over_http():
    with Tap(ROOT_URL) as tap:
        edit(tap.url, CLASSIC, more="supports_websockets = true\n")
    tried = tap.exchanges[0]
    assert tried.headers["upgrade"] == "websocket" and tried.status in (101, 426), tried.status
    posts = len(tap.posts("/responses"))
    assert len(tap.exchanges) == 1 + posts, "one try"
    assert (posts == 0) == (tried.status == 101), posts


def loses_nothing_of_a_classic_request():
    loses_nothing(CLASSIC, {"instructions"})


def loses_nothing_of_a_lite_request():
    loses_nothing(LITE, set())


def loses_nothing(task, added):
    """Compares the requests of the CLI with the upstream requests, and the responses with those of the backend."""
    with between_taps() as (front, behind):
        edit(front.url, task)
    asked, left = front.posts(f"{PATH}/responses"), behind.posts("/backend-api/codex/responses")
    assert len(asked) == len(left) >= 2, (len(asked), len(left))
    for sent, received in zip(asked, left):
        sent_body, received_body = sent.json(), received.json()
        assert set(received_body.names()) - set(sent_body.names()) == added, received_body.names()
        for name, value in sent_body:
            assert received_body.get(name) == value, name
        assert MEANT_FOR_THE_CLIENT in sent.headers and MEANT_FOR_THE_CLIENT not in received.headers
        named = [name for name in sent.headers if name.startswith("x-") or name in MEANT_FOR_THE_BACKEND]
        meant = [name for name in named if name != MEANT_FOR_THE_CLIENT]
        assert len(meant) > 5, meant
        for name in meant:
            assert received.headers.get(name) == sent.headers[name], name
        assert sent.events() == received.events() != []
        back = [name for name in received.answer_headers if name.startswith("x-codex-")]
        for name in [*back, "openai-model", "x-models-etag"]:
            assert sent.answer_headers[name] == received.answer_headers[name], name


run(
    "codex cli",
    [
        edits_a_file,
        edits_a_file_in_the_lite_form,
        works_with_the_base_url_of_other_clients,
        understands_our_list_of_models,
        searches_for_tools_in_the_lite_form_without_scripts,
        edits_a_file_over_a_websocket_or_at_once_over_http,
        loses_nothing_of_a_classic_request,
        loses_nothing_of_a_lite_request,
    ],
)
