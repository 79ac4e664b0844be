"""LiteLLM as a client of the demo. Usage: litellm_chat.py BASE_URL"""

import os

# Use the bundled price list instead of fetching it from the network.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import json
import logging

import litellm
from pydantic import BaseModel

from harness import BASE_URL, MODEL, NO_MODEL, WEATHER, cities, fails_with, red_dot, run, run_tools, say, weather_in

litellm.suppress_debug_info = True
logging.getLogger("LiteLLM").setLevel(logging.ERROR)
PLACE = {"model": f"openai/{MODEL}", "api_base": BASE_URL, "api_key": "any key"}


class Person(BaseModel):
    name: str
    age: int


def complete(**request):
    return litellm.completion(**PLACE, **request)


def completion_answers():
    answer = complete(messages=say("Good morning"))
    choice = answer.choices[0]
    assert NO_MODEL in choice.message.content and "Good morning" in choice.message.content, answer
    assert choice.finish_reason == "stop", choice
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens > 0, answer.usage


def stream_answers():
    chunks = list(complete(messages=say("Good morning"), stream=True, stream_options={"include_usage": True}))
    whole = litellm.stream_chunk_builder(chunks)
    assert len(chunks) > 4 and NO_MODEL in whole.choices[0].message.content, whole
    assert whole.choices[0].finish_reason == "stop", whole
    assert whole.usage.total_tokens > 0, whole.usage


async def acompletion_answers():
    answer = await litellm.acompletion(**PLACE, messages=say("Good morning"))
    assert NO_MODEL in answer.choices[0].message.content, answer
    pieces = await litellm.acompletion(**PLACE, messages=say("Good morning"), stream=True)
    text = "".join([piece.choices[0].delta.content or "" async for piece in pieces])
    assert text == answer.choices[0].message.content, text


def thinking_is_shown():
    message = complete(messages=say("Hello"), reasoning_effort="high").choices[0].message
    assert "reasoning is simulated" in message.reasoning_content, message


def tools_are_called_and_their_outputs_used():
    messages = say("What is the weather in Oslo and Rome?")
    first = complete(messages=messages, tools=[WEATHER])
    assert first.choices[0].finish_reason == "tool_calls", first
    calls = first.choices[0].message.tool_calls
    assert cities(calls) == ["Oslo", "Rome"], calls
    messages += [first.choices[0].message, *run_tools(calls)]
    text = complete(messages=messages, tools=[WEATHER]).choices[0].message.content
    assert weather_in("Oslo") in text and weather_in("Rome") in text, text


def calls_stream():
    chunks = list(complete(messages=say("Weather in Oslo and Rome?"), tools=[WEATHER], stream=True))
    message = litellm.stream_chunk_builder(chunks).choices[0].message
    assert cities(message.tool_calls) == ["Oslo", "Rome"], message


def an_answer_fills_a_schema():
    answer = complete(messages=say("Extract: Bob is 5."), response_format=Person)
    assert json.loads(answer.choices[0].message.content) == {"name": "Bob", "age": 5}, answer


def a_picture_is_seen():
    content = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": red_dot()}}]
    assert "I see 1 image" in complete(messages=[{"role": "user", "content": content}]).choices[0].message.content


def errors_have_their_classes():
    fails_with(litellm.RateLimitError, lambda: complete(messages=say("demo:usage-limit"), num_retries=0))
    fails_with(litellm.BadRequestError, lambda: complete(messages=say("Hello"), n=2))
    error = fails_with(litellm.BadRequestError, lambda: complete(messages=say("demo:context")))
    assert error.body["code"] == "context_length_exceeded", error.body


run(
    "litellm",
    [
        completion_answers,
        stream_answers,
        acompletion_answers,
        thinking_is_shown,
        tools_are_called_and_their_outputs_used,
        calls_stream,
        an_answer_fills_a_schema,
        a_picture_is_seen,
        errors_have_their_classes,
    ],
)
