"""The official Python SDK, asynchronous, against the demo. Usage: openai_async.py BASE_URL"""

import asyncio

import openai
from pydantic import BaseModel

from harness import BASE_URL, MODEL, NO_MODEL, WEATHER, cities, run, run_tools, say, weather_in

client = openai.AsyncOpenAI(base_url=BASE_URL, api_key="another key")


class Person(BaseModel):
    name: str
    age: int


async def create(**request):
    return await client.chat.completions.create(model=MODEL, **request)


async def models_are_listed():
    assert MODEL in [entry.id async for entry in client.models.list()]


async def many_answers_come_at_once():
    texts = [f"Number {number}" for number in range(20)]
    answers = await asyncio.gather(*(create(messages=say(text)) for text in texts))
    for text, answer in zip(texts, answers):
        assert text in answer.choices[0].message.content, answer


async def stream_answers():
    pieces = []
    async for chunk in await create(messages=say("Hello"), stream=True):
        pieces += [choice.delta.content or "" for choice in chunk.choices]
    assert NO_MODEL in "".join(pieces), pieces


async def a_stream_that_is_left_ends():
    async with await create(messages=say("demo:slow"), stream=True) as stream:
        async for chunk in stream:
            if chunk.choices and chunk.choices[0].delta.content:
                break
    assert stream.response.is_closed


async def the_stream_helper_parses():
    helper = client.chat.completions.stream(
        model=MODEL, messages=say("Extract: Bob is 5."), response_format=Person
    )
    async with helper as events:
        snapshots = [event.parsed async for event in events if event.type == "content.delta"]
        final = await events.get_final_completion()
    assert len(snapshots) > 1, snapshots
    assert final.choices[0].message.parsed == Person(name="Bob", age=5), final


async def an_answer_is_parsed_into_a_model():
    answer = await client.chat.completions.parse(
        model=MODEL, messages=say("Extract: Bob is 5."), response_format=Person
    )
    assert answer.choices[0].message.parsed == Person(name="Bob", age=5), answer


async def a_loop_of_tools_ends_in_an_answer():
    messages, asked = say("What is the weather in Oslo and Rome?"), []
    for _ in range(4):
        message = (await create(messages=messages, tools=[WEATHER])).choices[0].message
        messages.append(message)
        if not message.tool_calls:
            break
        asked += cities(message.tool_calls)
        messages += run_tools(message.tool_calls)
    assert asked == ["Oslo", "Rome"], asked
    assert all(weather_in(city) in message.content for city in asked), message


async def headers_are_there():
    raw = await client.chat.completions.with_raw_response.create(
        model=MODEL, messages=say("Hello"), temperature=0.2
    )
    assert raw.headers["x-request-id"], raw.headers
    assert raw.headers["x-proxy-warnings"] == "ignored:temperature", raw.headers


async def errors_have_their_classes():
    for kind, request in [
        (openai.BadRequestError, {"messages": say("Hello"), "n": 2}),
        (openai.RateLimitError, {"messages": say("demo:usage-limit")}),
        (openai.InternalServerError, {"messages": say("demo:overloaded")}),
    ]:
        try:
            await create(**request)
        except kind:
            continue
        raise AssertionError(f"no {kind.__name__}")


async def a_time_out_is_a_time_out():
    hasty = client.with_options(timeout=0.5, max_retries=0)
    try:
        await hasty.chat.completions.create(model=MODEL, messages=say("demo:slow"))
    except openai.APITimeoutError:
        return
    raise AssertionError("it was in time")


run(
    "python async",
    [
        models_are_listed,
        many_answers_come_at_once,
        stream_answers,
        a_stream_that_is_left_ends,
        the_stream_helper_parses,
        an_answer_is_parsed_into_a_model,
        a_loop_of_tools_ends_in_an_answer,
        headers_are_there,
        errors_have_their_classes,
        a_time_out_is_a_time_out,
    ],
)
