"""The official Python SDK against the demo. Usage: openai_chat.py BASE_URL

Prints `ok …` or `FAILED …` for each check; the exit code says whether all passed.
"""

import asyncio
import base64
import json
import struct
import sys
import traceback
import zlib

import openai
from pydantic import BaseModel

BASE_URL = sys.argv[1]
NO_MODEL = "no model wrote this"
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}

client = openai.OpenAI(base_url=BASE_URL, api_key="any key")
asynchronous = openai.AsyncOpenAI(base_url=BASE_URL, api_key="another key")
model = ""


def say(text):
    return [{"role": "user", "content": text}]


def run_tools(calls):
    """Answers each call as a program would."""
    return [
        {
            "role": "tool",
            "tool_call_id": call.id,
            "content": f"12 degrees in {json.loads(call.function.arguments)['city']}",
        }
        for call in calls
    ]


def red_dot():
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(b"\x00\xff\x00\x00"))
    picture = b"\x89PNG\r\n\x1a\n" + header + pixels + chunk(b"IEND", b"")
    return "data:image/png;base64," + base64.b64encode(picture).decode()


def models_are_listed_and_retrieved():
    listed = client.models.list().data
    assert listed and all(entry.object == "model" for entry in listed), listed
    assert client.models.retrieve(listed[0].id).id == listed[0].id


def an_unknown_model_is_not_found():
    try:
        client.models.retrieve("no-such-model")
    except openai.NotFoundError as error:
        assert error.code == "model_not_found", error
        return
    raise AssertionError("it was found")


def create():
    answer = client.chat.completions.create(model=model, messages=say("Good morning"))
    choice = answer.choices[0]
    assert NO_MODEL in choice.message.content, choice
    assert "Good morning" in choice.message.content, choice
    assert choice.finish_reason == "stop", choice
    assert answer.object == "chat.completion" and answer.model == model, answer
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens > 0, answer.usage


def the_answer_is_marked_as_a_demo():
    raw = client.chat.completions.with_raw_response.create(model=model, messages=say("Hello"))
    assert raw.headers["x-proxy-demo"] == "true", raw.headers
    assert raw.headers["x-request-id"], raw.headers


def stream():
    chunks = list(
        client.chat.completions.create(
            model=model, messages=say("Good morning"), stream=True, stream_options={"include_usage": True}
        )
    )
    deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    texts = [delta.content for delta in deltas if delta.content]
    assert deltas[0].role == "assistant", deltas[0]
    assert len(texts) > 3, "the text comes in pieces"
    assert NO_MODEL in "".join(texts), texts
    finishes = [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices]
    assert [finish for finish in finishes if finish] == ["stop"], finishes
    assert chunks[-1].choices == [] and chunks[-1].usage.total_tokens > 0, chunks[-1]
    assert len({chunk.id for chunk in chunks}) == 1, "one id for all"


def a_stream_equals_the_whole_answer():
    whole = client.chat.completions.create(model=model, messages=say("The same"))
    pieces = client.chat.completions.create(model=model, messages=say("The same"), stream=True)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in pieces if chunk.choices)
    assert text == whole.choices[0].message.content, text


def thinking_is_shown():
    pieces = client.chat.completions.create(model=model, messages=say("Hello"), stream=True, reasoning_effort="high")
    thought = "".join(getattr(chunk.choices[0].delta, "reasoning_content", None) or "" for chunk in pieces if chunk.choices)
    assert "Nothing thinks here" in thought, thought


def a_tool_is_called_and_its_output_used():
    messages = say("What is the weather in Oslo?")
    first = client.chat.completions.create(model=model, messages=messages, tools=[WEATHER])
    assert first.choices[0].finish_reason == "tool_calls", first
    calls = first.choices[0].message.tool_calls
    assert [json.loads(call.function.arguments) for call in calls] == [{"city": "Oslo"}], calls
    messages += [first.choices[0].message, *run_tools(calls)]
    second = client.chat.completions.create(model=model, messages=messages, tools=[WEATHER])
    assert "12 degrees in Oslo" in second.choices[0].message.content, second


def tools_are_called_in_parallel():
    messages = say("What is the weather in Oslo and Rome?")
    first = client.chat.completions.create(model=model, messages=messages, tools=[WEATHER])
    calls = first.choices[0].message.tool_calls
    assert [json.loads(call.function.arguments)["city"] for call in calls] == ["Oslo", "Rome"], calls
    assert calls[0].id != calls[1].id, calls
    messages += [first.choices[0].message, *run_tools(calls)]
    text = client.chat.completions.create(model=model, messages=messages, tools=[WEATHER]).choices[0].message.content
    assert "12 degrees in Oslo" in text and "12 degrees in Rome" in text, text
    one = client.chat.completions.create(model=model, messages=say("Weather in Oslo and Rome?"), tools=[WEATHER], parallel_tool_calls=False)
    assert len(one.choices[0].message.tool_calls) == 1, one


def calls_stream_with_their_indices():
    pieces = client.chat.completions.create(model=model, messages=say("Weather in Oslo and Rome?"), tools=[WEATHER], stream=True)
    arguments = {}
    for chunk in pieces:
        for call in (chunk.choices[0].delta.tool_calls or []) if chunk.choices else []:
            arguments[call.index] = arguments.get(call.index, "") + (call.function.arguments or "")
    assert [json.loads(arguments[index])["city"] for index in (0, 1)] == ["Oslo", "Rome"], arguments


def a_tool_can_be_demanded_and_forbidden():
    named = {"type": "function", "function": {"name": "get_weather"}}
    for choice in ("required", named):
        answer = client.chat.completions.create(model=model, messages=say("Hello"), tools=[WEATHER], tool_choice=choice)
        assert answer.choices[0].message.tool_calls[0].function.name == "get_weather", answer
    answer = client.chat.completions.create(model=model, messages=say("Weather in Oslo?"), tools=[WEATHER], tool_choice="none")
    assert not answer.choices[0].message.tool_calls, answer


def a_picture_is_seen():
    content = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": red_dot()}}]
    answer = client.chat.completions.create(model=model, messages=[{"role": "user", "content": content}])
    assert "I see 1 image" in answer.choices[0].message.content, answer


class Person(BaseModel):
    name: str
    age: int
    nicknames: list[str]


def an_answer_is_parsed_into_a_model():
    answer = client.chat.completions.parse(model=model, messages=say("Extract: Bob is 5."), response_format=Person)
    person = answer.choices[0].message.parsed
    assert (person.name, person.age) == ("Bob", 5), person


def json_mode_answers_json():
    answer = client.chat.completions.create(
        model=model, messages=say("Name a colour."), response_format={"type": "json_object"}
    )
    assert json.loads(answer.choices[0].message.content)["demo"] is True, answer


def refused(param, **request):
    try:
        client.chat.completions.create(**{"model": model, "messages": say("Hello"), **request})
    except openai.BadRequestError as error:
        assert error.param == param, f"param {error.param!r}: {error}"
        assert error.type == "invalid_request_error", error
        assert error.request_id, "an id to ask about"
        return
    raise AssertionError(f"it was accepted: {request}")


def bad_requests_name_the_parameter():
    refused("n", n=2)
    refused("messages", messages=[])
    refused("messages[0].role", messages=[{"role": "wizard", "content": "Hello"}])
    refused("reasoning_effort", reasoning_effort="huge")
    refused("tool_choice", tool_choice="required")


def an_exhausted_quota_is_told_once():
    try:
        client.chat.completions.create(model=model, messages=say("demo:usage-limit"))
    except openai.RateLimitError as error:
        assert error.code == "usage_limit_reached", error
        assert error.response.headers["x-should-retry"] == "false", error.response.headers
        return
    raise AssertionError("no error")


def a_cut_answer_is_an_error():
    try:
        for _ in client.chat.completions.create(model=model, messages=say("demo:cut please, and say much"), stream=True):
            pass
    except (openai.APIError, openai.APIConnectionError):
        return
    raise AssertionError("it looked whole")


async def in_parallel():
    texts = [f"Number {number}" for number in range(10)]
    answers = await asyncio.gather(
        *(asynchronous.chat.completions.create(model=model, messages=say(text)) for text in texts)
    )
    for text, answer in zip(texts, answers):
        assert text in answer.choices[0].message.content, answer


async def streamed_asynchronously():
    pieces = []
    async for chunk in await asynchronous.chat.completions.create(model=model, messages=say("Hello"), stream=True):
        pieces += [choice.delta.content or "" for choice in chunk.choices]
    assert NO_MODEL in "".join(pieces), pieces


async def with_the_stream_helper():
    async with asynchronous.chat.completions.stream(
        model=model, messages=say("Extract: Bob is 5."), response_format=Person
    ) as events:
        async for _ in events:
            pass
        final = await events.get_final_completion()
    assert final.choices[0].message.parsed.name == "Bob", final


async def all_asynchronous():
    await in_parallel()
    await streamed_asynchronously()
    await with_the_stream_helper()


def asynchronous_calls_work():
    asyncio.run(all_asynchronous())


CHECKS = [
    models_are_listed_and_retrieved,
    an_unknown_model_is_not_found,
    create,
    the_answer_is_marked_as_a_demo,
    stream,
    a_stream_equals_the_whole_answer,
    thinking_is_shown,
    a_tool_is_called_and_its_output_used,
    tools_are_called_in_parallel,
    calls_stream_with_their_indices,
    a_tool_can_be_demanded_and_forbidden,
    a_picture_is_seen,
    an_answer_is_parsed_into_a_model,
    json_mode_answers_json,
    bad_requests_name_the_parameter,
    an_exhausted_quota_is_told_once,
    a_cut_answer_is_an_error,
    asynchronous_calls_work,
]


def main():
    global model
    model = client.models.list().data[0].id
    failures = 0
    for check in CHECKS:
        name = check.__name__.replace("_", " ")
        try:
            check()
            print(f"ok python {name}", flush=True)
        except Exception as error:
            failures += 1
            print(f"FAILED python {name}: {type(error).__name__}: {error}", flush=True)
            traceback.print_exc()
    return 1 if failures else 0


sys.exit(main())
