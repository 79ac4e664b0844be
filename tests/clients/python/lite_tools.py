"""Web search and image generation on models in the lite form, with the official SDKs. Usage: lite_tools.py BASE_URL"""

import base64

import anthropic
import ollama
import openai

from harness import NO_MODEL, WEATHER, run, say
from workshop import LITE, between_taps, lite_demo

MODEL = "gpt-6.1-sol"
ASK = "Search the web for the latest Rust release"
SOURCE = "https://example.com/"


def with_demo(check):
    """The check, called with the root URL of a demo in the lite form."""

    def with_root():
        with lite_demo() as root:
            check(root)

    with_root.__name__ = check.__name__
    return with_root


def openai_client(root):
    return openai.OpenAI(base_url=f"{root}/v1", api_key="any key", max_retries=0)


@with_demo
def chat_answers_cite_pages(root):
    client = openai_client(root)
    request = {"model": MODEL, "messages": say(ASK), "web_search_options": {}, "tools": [WEATHER]}
    message = client.chat.completions.create(**request).choices[0].message
    assert NO_MODEL in message.content and not message.tool_calls, message
    cited = [annotation.url_citation for annotation in message.annotations]
    assert cited and all(citation.url.startswith(SOURCE) for citation in cited), message.annotations
    assert any(message.content[c.start_index : c.end_index] == c.url for c in cited), message
    chunks = list(client.chat.completions.create(**request, stream=True, stream_options={"include_usage": True}))
    assert len({chunk.id for chunk in chunks}) == 1 and chunks[-1].usage.total_tokens > 0, chunks
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == message.content, text


def a_search_beside_a_call_is_kept_for_its_output():
    request = {"model": MODEL, "web_search_options": {}, "tools": [WEATHER]}
    messages = say("Search the web, and get_weather in Oslo")
    with between_taps(LITE) as (front, behind):
        client = openai_client(front.url)
        message = client.chat.completions.create(messages=messages, **request).choices[0].message
        assert [call.function.name for call in message.tool_calls] == ["get_weather"], message
        output = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "12 degrees"}
        messages = [*messages, message, output]
        answer = client.chat.completions.create(messages=messages, **request).choices[0].message.content
    assert "The tool run returned:" in answer and "12 degrees" in answer, answer
    searches, rounds = behind.posts("/alpha/search"), behind.posts("/responses")
    assert (len(searches), len(rounds)) == (1, 2), (searches, rounds)


@with_demo
def responses_have_items_of_hosted_tools(root):
    client = openai_client(root)
    searched = client.responses.create(model=MODEL, input=ASK, tools=[{"type": "web_search"}])
    search = next(item for item in searched.output if item.type == "web_search_call")
    assert search.status == "completed" and search.action.query == ASK, search
    assert searched.output[-1].content[0].annotations[0].url.startswith(SOURCE), searched.output[-1]
    tools = [{"type": "image_generation"}]
    with client.responses.stream(model=MODEL, input="Draw an image of a fox", tools=tools) as stream:
        kinds = [event.type for event in stream]
        drawn = stream.get_final_response()
    assert "response.image_generation_call.generating" in kinds, kinds
    image = next(item for item in drawn.output if item.type == "image_generation_call")
    assert base64.b64decode(image.result).startswith(b"\x89PNG"), image


@with_demo
def messages_have_server_tool_blocks(root):
    client = anthropic.Anthropic(base_url=root, api_key="any key", max_retries=0)
    tool = {"type": "web_search_20250305", "name": "web_search"}
    request = {"model": MODEL, "max_tokens": 1024, "messages": say(ASK), "tools": [tool]}
    forced = client.messages.create(**request, tool_choice={"type": "tool", "name": "web_search"})
    with client.messages.stream(**request) as stream:
        streamed = stream.get_final_message()
    for message in (forced, streamed):
        kinds = [block.type for block in message.content]
        assert kinds[:2] == ["server_tool_use", "web_search_tool_result"], kinds
        assert message.content[1].content[0].url.startswith(SOURCE), message
        assert message.usage.server_tool_use.web_search_requests == 1, message.usage


@with_demo
def ollama_has_a_tool_of_type_web_search(root):
    client = ollama.Client(host=root)
    for stream in (False, True):
        answer = client.chat(model=MODEL, messages=say(ASK), tools=[{"type": "web_search"}], stream=stream)
        text = "".join(part.message.content for part in (answer if stream else [answer]))
        assert "The tool run returned:" in text and SOURCE in text, text


run(
    "python lite tools",
    [
        chat_answers_cite_pages,
        a_search_beside_a_call_is_kept_for_its_output,
        responses_have_items_of_hosted_tools,
        messages_have_server_tool_blocks,
        ollama_has_a_tool_of_type_web_search,
    ],
)
