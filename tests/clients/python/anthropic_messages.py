"""Anthropic's official Python SDK against the demo. Usage: anthropic_messages.py BASE_URL"""

import asyncio
import base64

import anthropic
from anthropic import beta_async_tool, beta_tool
from pydantic import BaseModel

from harness import BASE_URL, MODEL, NO_MODEL, fails_with, red_dot, run, say, weather_in

# The SDK adds /v1 itself.
ROOT = BASE_URL.removesuffix("/v1")
CLAUDE = "claude-opus-4-8"
WEATHER = {
    "name": "get_weather",
    "description": "The weather in a city.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
SEARCH = {"type": "web_search_20250305", "name": "web_search", "max_uses": 3}
THINKING = {"type": "enabled", "budget_tokens": 2048}

client = anthropic.Anthropic(base_url=ROOT, api_key="any key", _strict_response_validation=True)
later = anthropic.AsyncAnthropic(base_url=ROOT, auth_token="another key")


class Person(BaseModel):
    name: str
    age: int


def create(**request):
    return client.messages.create(**{"model": CLAUDE, "max_tokens": 1024, "messages": say("Hello"), **request})


def text_of(message):
    return "".join(block.text for block in message.content if block.type == "text")


def calls_of(message):
    return [block for block in message.content if block.type == "tool_use"]


def results(calls):
    """Returns the output of each call."""
    return [
        {"type": "tool_result", "tool_use_id": call.id, "content": weather_in(call.input["city"])} for call in calls
    ]


def create_answers():
    message = create(system="Be brief.", metadata={"user_id": "somebody"})
    assert NO_MODEL in text_of(message), message
    assert (message.role, message.model, message.stop_reason) == ("assistant", CLAUDE, "end_turn"), message
    assert message.usage.input_tokens > 0 and message.usage.output_tokens > 0, message.usage
    assert message._request_id.startswith("req_"), message


def ignored_settings_are_named():
    raw = client.messages.with_raw_response.create(
        model=CLAUDE, max_tokens=9, messages=say("Hello"), extra_body={"top_k": 4, "temperature": 0.2}
    )
    reported = raw.headers["x-proxy-warnings"].split(", ")
    assert sorted(reported) == ["ignored:temperature", "ignored:top_k"], reported


def a_stream_equals_the_whole_answer():
    events = list(create(stream=True))
    kinds = [event.type for event in events]
    assert kinds[0] == "message_start" and kinds[-2:] == ["message_delta", "message_stop"], kinds
    reported = [event.delta.text for event in events if event.type == "content_block_delta"]
    assert len(reported) > 1 and "".join(reported) == text_of(create()), reported


def the_stream_helper_gathers():
    with client.messages.stream(
        model=CLAUDE, max_tokens=1024, messages=say("Think: what is 2 + 2?"), thinking=THINKING
    ) as stream:
        reported = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert NO_MODEL in reported and reported == text_of(final), final
    assert final.content[0].type == "thinking" and final.content[0].signature, final
    assert final.usage.output_tokens > 0, final.usage


def thinking_is_shown_and_comes_back():
    question = {"role": "user", "content": "Think, and use the tool: what is the weather in Oslo?"}
    first = create(messages=[question], tools=[WEATHER], thinking=THINKING)
    assert first.content[0].type == "thinking" and first.content[0].thinking, first
    assert first.content[0].signature.startswith("cxr1."), first
    history = [question, {"role": "assistant", "content": first.content}]
    history += [{"role": "user", "content": results(calls_of(first))}]
    second = create(messages=history, tools=[WEATHER], thinking=THINKING)
    assert "12 degrees in Oslo" in text_of(second), second
    assert all(block.type != "thinking" for block in create(messages=[question]).content)


def tools_are_called_in_parallel():
    question = {"role": "user", "content": "Weather in Oslo and Rome?"}
    for make in (lambda **request: create(**request), streamed):
        first = make(messages=[question], tools=[WEATHER])
        calls = calls_of(first)
        assert first.stop_reason == "tool_use", first
        assert [call.input["city"] for call in calls] == ["Oslo", "Rome"], first
        history = [question, {"role": "assistant", "content": first.content}]
        history += [{"role": "user", "content": results(calls)}]
        reported = text_of(make(messages=history, tools=[WEATHER]))
        assert "12 degrees in Oslo" in reported and "12 degrees in Rome" in reported, reported


def streamed(**request):
    with client.messages.stream(model=CLAUDE, max_tokens=1024, **request) as stream:
        return stream.get_final_message()


def a_tool_can_be_demanded_and_forbidden():
    for choice, expected in [
        ({"type": "any"}, "tool_use"),
        ({"type": "tool", "name": "get_weather"}, "tool_use"),
        ({"type": "none"}, "end_turn"),
    ]:
        message = create(messages=say("Weather in Oslo?"), tools=[WEATHER], tool_choice=choice)
        assert message.stop_reason == expected, (choice, message)
    single = {"type": "auto", "disable_parallel_tool_use": True}
    message = create(messages=say("Weather in Oslo and Rome?"), tools=[WEATHER], tool_choice=single)
    assert len(calls_of(message)) == 1, message


def the_tool_runner_gets_through_the_loop():
    asked = []

    @beta_tool
    def get_weather(city: str) -> str:
        """The weather in a city."""
        asked.append(city)
        return weather_in(city)

    runner = client.beta.messages.tool_runner(
        model=CLAUDE, max_tokens=1024, messages=say("Weather in Oslo and Rome?"), tools=[get_weather]
    )
    # The runner expects the server to store the conversation; disable that.
    reported = text_of(runner.until_done())
    assert sorted(asked) == ["Oslo", "Rome"], asked
    assert "12 degrees in Oslo" in reported and "12 degrees in Rome" in reported, reported


def pictures_and_documents_are_seen():
    picture = {"type": "base64", "media_type": "image/png", "data": red_dot().split(",")[1]}
    document = {"type": "base64", "media_type": "application/pdf", "data": base64.b64encode(b"%PDF-1.4").decode()}
    content = [
        {"type": "image", "source": picture},
        {"type": "document", "source": document, "title": "a.pdf"},
        {"type": "text", "text": "What is this?", "cache_control": {"type": "ephemeral"}},
    ]
    reported = text_of(create(messages=[{"role": "user", "content": content}]))
    assert "I see 1 image" in reported and "I see 1 file" in reported, reported


def a_web_search_is_reported():
    for message in (create(messages=say("Search the web"), tools=[SEARCH]), streamed(messages=say("Search the web"), tools=[SEARCH])):
        kinds = [block.type for block in message.content]
        assert kinds[:2] == ["server_tool_use", "web_search_tool_result"], kinds
        found = message.content[1].content
        assert found and found[0].url.startswith("https://"), message
        assert message.usage.server_tool_use.web_search_requests == 1, message.usage


def an_answer_is_parsed_into_a_model():
    message = client.messages.parse(
        model=CLAUDE, max_tokens=1024, messages=say("Extract: Bob is 30"), output_format=Person
    )
    assert message.parsed_output == Person(name="Bob", age=30), message


def a_stop_sequence_ends_the_answer():
    message = create(stop_sequences=["no model"])
    assert text_of(message) == "This is a simulated response from the codex-proxy demo: ", message
    assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", "no model"), message


def an_end_has_its_reason():
    assert create(messages=say("demo:refuse")).stop_reason == "refusal"
    assert create(messages=say("demo:length please, and say much")).stop_reason == "max_tokens"


def tokens_are_counted():
    count = lambda **request: client.messages.count_tokens(model=CLAUDE, **request).input_tokens
    plain = count(messages=say("Hello"))
    assert 0 < plain < count(messages=say("Hello, and how are you?")) < count(messages=say("Hello"), tools=[WEATHER])


def models_are_listed_and_retrieved():
    page = client.models.list(limit=1)
    assert len(page.data) == 1 and page.has_more, page
    ids = [model.id for model in page]
    assert len(ids) > 1 and MODEL in ids, "the SDK turns the pages"
    model = client.models.retrieve(MODEL)
    assert (model.id, model.type, model.lifecycle) == (MODEL, "model", "active"), model
    assert model.max_input_tokens > 0, model


def errors_have_their_classes():
    for kind, status, error_type, call in [
        (anthropic.BadRequestError, 400, "invalid_request_error", lambda: create(messages=[])),
        (anthropic.BadRequestError, 400, "invalid_request_error", lambda: create(messages=say("demo:context"))),
        (anthropic.NotFoundError, 404, "not_found_error", lambda: client.models.retrieve("no-such-model")),
        (anthropic.RateLimitError, 429, "rate_limit_error", lambda: create(messages=say("demo:usage-limit"))),
        (anthropic.OverloadedError, 529, "overloaded_error", lambda: create(messages=say("demo:overloaded"), stream=True)),
    ]:
        error = fails_with(kind, call)
        assert error.status_code == status and error.body["error"]["type"] == error_type, error.body
        assert error.request_id.startswith("req_"), error
    too_long = fails_with(anthropic.BadRequestError, lambda: create(messages=say("demo:context")))
    assert "prompt is too long" in too_long.message, too_long


def a_spent_quota_is_reported_once():
    error = fails_with(anthropic.RateLimitError, lambda: create(messages=say("demo:usage-limit")))
    headers = error.response.headers
    assert headers["x-should-retry"] == "false" and int(headers["retry-after"]) > 0, headers


def an_answer_that_breaks_is_an_error():
    for word in ("demo:cut", "demo:end", "demo:error"):
        messages = say(f"{word} please, and say much")
        fails_with(anthropic.APIError, lambda: streamed(messages=messages))
        fails_with(anthropic.InternalServerError, lambda: create(messages=messages))


async def many_answers_come_at_once():
    texts = [f"Number {number}" for number in range(20)]
    ask = lambda text: later.messages.create(model=MODEL, max_tokens=9, messages=say(text))
    for text, message in zip(texts, await asyncio.gather(*map(ask, texts))):
        assert text in text_of(message), message


async def an_asynchronous_stream_is_gathered():
    async with later.messages.stream(
        model=CLAUDE, max_tokens=1024, messages=say("Weather in Oslo?"), tools=[WEATHER]
    ) as stream:
        kinds = [event.type async for event in stream]
        final = await stream.get_final_message()
    assert "input_json" in kinds, kinds
    assert calls_of(final)[0].input == {"city": "Oslo"}, final


async def an_asynchronous_tool_runner_gets_through_the_loop():
    @beta_async_tool
    async def get_weather(city: str) -> str:
        """The weather in a city."""
        return weather_in(city)

    runner = later.beta.messages.tool_runner(
        model=CLAUDE, max_tokens=1024, messages=say("Weather in Oslo?"), tools=[get_weather], stream=True
    )
    reported = text_of(await runner.until_done())
    assert "12 degrees in Oslo" in reported, reported


async def counts_and_models_come_asynchronously():
    counts = await asyncio.gather(
        *(later.messages.count_tokens(model=CLAUDE, messages=say("Hello")) for _ in range(14))
    )
    assert len({count.input_tokens for count in counts}) == 1, counts
    assert MODEL in [model.id async for model in later.models.list()]


run(
    "python anthropic",
    [
        create_answers,
        ignored_settings_are_named,
        a_stream_equals_the_whole_answer,
        the_stream_helper_gathers,
        thinking_is_shown_and_comes_back,
        tools_are_called_in_parallel,
        a_tool_can_be_demanded_and_forbidden,
        the_tool_runner_gets_through_the_loop,
        pictures_and_documents_are_seen,
        a_web_search_is_reported,
        an_answer_is_parsed_into_a_model,
        a_stop_sequence_ends_the_answer,
        an_end_has_its_reason,
        tokens_are_counted,
        models_are_listed_and_retrieved,
        errors_have_their_classes,
        a_spent_quota_is_reported_once,
        an_answer_that_breaks_is_an_error,
        many_answers_come_at_once,
        an_asynchronous_stream_is_gathered,
        an_asynchronous_tool_runner_gets_through_the_loop,
        counts_and_models_come_asynchronously,
    ],
)
