"""The Gemini CLI, headless, against the demo. Usage: gemini_cli.py BASE_URL"""

import json
import os

from harness import MODEL, NO_MODEL, run
from workshop import PROGRAMS, ROOT_URL, Workshop

GEMINI = PROGRAMS / "@google/gemini-cli/bundle/gemini.js"
# The directory with the run file of the daemon.
OURS = {"CODEX_PROXY_HOME": os.environ["CODEX_PROXY_HOME"]}


def call(tool, **members):
    return f"demo:call {tool} {json.dumps(members)}"


def ask(shop, prompt):
    """Runs the program with the settings that `connect gemini` prints."""
    printed = shop.try_run([os.environ["PROXY_BINARY"], "connect", "gemini"], OURS).stdout
    settings, _ = json.JSONDecoder().raw_decode(printed[printed.index("{") :])
    lines = [line.strip() for line in printed.splitlines()]
    variables = dict(line.split("=", 1) for line in lines if line.split("=")[0].isupper() and "=" in line)
    assert variables == {"GOOGLE_GEMINI_BASE_URL": ROOT_URL, "GEMINI_API_KEY": "anything", "GEMINI_MODEL": MODEL}, printed
    folder = shop.home / ".gemini"
    folder.mkdir(exist_ok=True)
    folder.joinpath("settings.json").write_text(json.dumps(settings))
    command = ["node", str(GEMINI), "--approval-mode", "yolo", "--output-format", "json", "--prompt", prompt]
    return shop.try_run(command, {**variables, "GEMINI_CLI_TRUST_WORKSPACE": "true"})


def reads_and_edits_files_over_several_turns():
    with Workshop() as shop:
        prompt = "\n".join(
            [
                "Edit the note.",
                call("read_file", file_path="note.txt"),
                call(
                    "replace", file_path="note.txt", instruction="Edit.", old_string="old line", new_string="new line"
                ),
                call("run_shell_command", command="cat note.txt > copy.txt"),
            ]
        )
        done = ask(shop, prompt)
        assert (shop.read("note.txt"), shop.read("copy.txt")) == ("new line\n", "new line\n"), done
    answer = json.loads(done.stdout)
    assert NO_MODEL in answer["response"], answer["response"]
    tools = answer["stats"]["tools"]
    assert (tools["totalCalls"], tools["totalFail"]) == (3, 0), tools


if GEMINI.exists():
    run("gemini cli", [reads_and_edits_files_over_several_turns])
print("skipped gemini cli: it is not installed")
