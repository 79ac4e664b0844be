"""Claude Code, headless, against the demo. Usage: claude_code.py BASE_URL"""

import json
import shlex

from harness import NO_MODEL, run
from tap import Tap
from workshop import DEFAULT_URL, ROOT_URL, Workshop, between_taps, clients_page_block, lite_demo, program

CLAUDE = program("claude code", "@anthropic-ai/claude-code-*/claude")
TOOLS = ["Agent", "Bash", "Edit", "Read", "ToolSearch", "WebSearch"]
QUIET = {"CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1", "DISABLE_AUTOUPDATER": "1", "DISABLE_TELEMETRY": "1"}


def call(tool, **members):
    return f"demo:call {tool} {json.dumps(members)}"


def command_of(root):
    """The variables in docs/clients.md, for a daemon at another address."""
    *settings, name = shlex.split(clients_page_block("sh", "ANTHROPIC_BASE_URL"), comments=True)
    assert name == "claude", name
    pairs = dict(setting.split("=", 1) for setting in settings)
    assert pairs["ANTHROPIC_BASE_URL"] == DEFAULT_URL, pairs
    return {**QUIET, **pairs, "ANTHROPIC_BASE_URL": root}


def ask(shop, root, prompt, environment=None):
    """Its progress messages; the last one is the result."""
    output = ["--output-format", "stream-json", "--verbose"]
    command = [CLAUDE, "-p", *output, "--allowedTools", *TOOLS, "--", prompt]
    said = shop.run(command, environment or command_of(root))
    result = said[-1]
    assert (result["type"], result["subtype"], result["is_error"]) == ("result", "success", False), result
    assert NO_MODEL in result["result"], result["result"]
    return said


def reads_and_edits_files_over_several_turns():
    with Workshop() as shop:
        note = str(shop.folder / "note.txt")
        prompt = "\n".join(
            [
                "Edit the note.",
                call("Read", file_path=note),
                call("Edit", file_path=note, old_string="old line", new_string="new line"),
                call("Bash", command="cat note.txt > copy.txt"),
            ]
        )
        result = ask(shop, ROOT_URL, prompt)[-1]
        assert (shop.read("note.txt"), shop.read("copy.txt")) == ("new line\n", "new line\n")
    assert result["num_turns"] == 4, result
    assert "The tool Read returned: 1\told line" in result["result"], result["result"]


def takes_an_api_key_as_well():
    environment = {**QUIET, "ANTHROPIC_BASE_URL": ROOT_URL, "ANTHROPIC_API_KEY": "anything"}
    with Workshop() as shop:
        assert "You said" in ask(shop, ROOT_URL, "Hello", environment)[-1]["result"]


LOOK_UP = "\n".join(
    ["Look it up.", call("ToolSearch", query="select:WebSearch", max_results=5), call("WebSearch", query="Rust")]
)


def searches_the_web_on_a_model_in_the_lite_form():
    with Workshop() as shop, lite_demo() as root:
        reported = ask(shop, root, LOOK_UP)[-1]["result"]
    assert 'Links: [{"title":' in reported and "https://example.com/" in reported, reported


def searches_the_web():
    with Workshop() as shop:
        reported = ask(shop, ROOT_URL, LOOK_UP)[-1]["result"]
    assert 'Links: [{"title":"Demo source","url":"https://example.invalid/demo"}]' in reported, reported


def works_with_a_sub_agent_under_a_cache_key_for_each():
    with Workshop() as shop, between_taps() as (front, behind):
        inner = "\n".join(["Do this.", call("Bash", command="echo sub > sub.txt"), call("Bash", command="cat sub.txt")])
        agent = call(
            "Agent", description="work", subagent_type="general-purpose", run_in_background=False, prompt=inner
        )
        said = ask(shop, front.url, "\n".join(["Let another do it.", agent, call("Bash", command="cat sub.txt")]))
        assert shop.read("sub.txt") == "sub\n"
        assert "hand-back" in said[-1]["result"], said[-1]["result"]
    keys = {}
    for sent, received in zip(front.posts("/v1/messages"), behind.posts("/responses"), strict=True):
        key = received.json().get("prompt_cache_key")
        assert received.headers["session-id"] == key
        keys.setdefault(sent.headers.get("x-claude-code-agent-id", "main"), []).append(key)
    assert sorted(len(of_agent) for of_agent in keys.values()) == [3, 3], keys
    assert all(len(set(of_agent)) == 1 for of_agent in keys.values()), keys
    assert len({of_agent[0] for of_agent in keys.values()}) == 2, keys


def compacts_a_conversation_that_is_too_long():
    with Workshop() as shop:
        words = ["one", "two", "three"]
        calls = [call("Bash", command=f"echo {word} > {word}.txt") for word in words]
        said = ask(shop, ROOT_URL, "\n".join(["With demo:overflow on the way.", *calls]))
        assert [shop.read(f"{word}.txt") for word in words] == ["one\n", "two\n", "three\n"]
    boundaries = [line for line in said if line.get("subtype") == "compact_boundary"]
    assert len(boundaries) == 1, [line.get("subtype") for line in said]


def stops_asking_when_the_quota_is_spent():
    with Workshop() as shop, Tap(ROOT_URL) as tap:
        done = shop.try_run([CLAUDE, "-p", "--output-format", "json", "--", "demo:usage-limit"], command_of(tap.url))
        result = json.loads(done.stdout)
    assert (done.returncode, result["is_error"]) == (1, True), result
    assert "usage limit reached" in result["result"], result["result"]
    assert len(tap.exchanges) == 1, len(tap.exchanges)


run(
    "claude code",
    [
        reads_and_edits_files_over_several_turns,
        takes_an_api_key_as_well,
        searches_the_web,
        searches_the_web_on_a_model_in_the_lite_form,
        works_with_a_sub_agent_under_a_cache_key_for_each,
        compacts_a_conversation_that_is_too_long,
        stops_asking_when_the_quota_is_spent,
    ],
)
