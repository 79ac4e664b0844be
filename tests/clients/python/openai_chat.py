"""The official Python SDK, synchronous, against the demo. Usage: openai_chat.py BASE_URL"""

import json

import openai
from pydantic import BaseModel

from harness import BASE_URL, MODEL, NO_MODEL, WEATHER, cities, fails_with, red_dot, run, run_tools, say, weather_in

client = openai.OpenAI(base_url=BASE_URL, api_key="any key")


class Person(BaseModel):
    name: str
    age: int
    nicknames: list[str]


class GetWeather(BaseModel):
    """The weather in a city."""

    city: str


def create(**request):
    return client.chat.completions.create(model=MODEL, **request)


def models_are_listed_and_retrieved():
    listed = client.models.list().data
    assert listed and all(entry.object == "model" for entry in listed), listed
    assert client.models.retrieve(listed[0].id).id == listed[0].id


def create_answers():
    answer = create(messages=say("Good morning"))
    choice = answer.choices[0]
    assert NO_MODEL in choice.message.content, choice
    assert "Good morning" in choice.message.content, choice
    assert choice.finish_reason == "stop", choice
    assert answer.object == "chat.completion" and answer.model == MODEL, answer
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens > 0, answer.usage


def headers_are_there():
    raw = client.chat.completions.with_raw_response.create(
        model=MODEL, messages=say("Hello"), temperature=0.2, max_tokens=100, user="somebody"
    )
    assert raw.headers["x-proxy-demo"] == "true", raw.headers
    assert raw.headers["x-request-id"] == raw.parse()._request_id, raw.headers
    warnings = set(raw.headers["x-proxy-warnings"].split(", "))
    assert warnings == {"ignored:temperature", "ignored:max_tokens"}, warnings
    quiet = client.chat.completions.with_raw_response.create(model=MODEL, messages=say("Hello"))
    assert "x-proxy-warnings" not in quiet.headers, quiet.headers


def headers_come_before_a_stream():
    with client.chat.completions.with_streaming_response.create(
        model=MODEL, messages=say("Hello"), stream=True, temperature=0.2
    ) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream"), answer.headers
        assert answer.headers["x-request-id"], answer.headers
        assert answer.headers["x-proxy-warnings"] == "ignored:temperature", answer.headers
        lines = [line for line in answer.iter_lines() if line]
    assert lines[-1] == "data: [DONE]", lines[-1]


def stream_answers():
    chunks = list(create(messages=say("Good morning"), stream=True, stream_options={"include_usage": True}))
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
    whole = create(messages=say("The same"))
    pieces = create(messages=say("The same"), stream=True)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in pieces if chunk.choices)
    assert text == whole.choices[0].message.content, text


def the_stream_helper_gathers_text():
    with client.chat.completions.stream(model=MODEL, messages=say("Good morning")) as events:
        gathered = [event for event in events if event.type in ("content.delta", "content.done")]
        final = events.get_final_completion()
    assert gathered[-1].type == "content.done" and gathered[-1].content == final.choices[0].message.content, gathered
    assert "".join(event.delta for event in gathered[:-1]) == gathered[-1].content, gathered


def the_stream_helper_gathers_calls():
    tools = [openai.pydantic_function_tool(GetWeather)]
    with client.chat.completions.stream(model=MODEL, messages=say("Weather in Oslo and Rome?"), tools=tools) as events:
        done = [event for event in events if event.type == "tool_calls.function.arguments.done"]
        final = events.get_final_completion()
    assert [event.parsed_arguments.city for event in done] == ["Oslo", "Rome"], done
    assert [event.index for event in done] == [0, 1], done
    assert [call.function.parsed_arguments.city for call in final.choices[0].message.tool_calls] == ["Oslo", "Rome"]


def thinking_is_shown():
    pieces = create(messages=say("Hello"), stream=True, reasoning_effort="high")
    deltas = [chunk.choices[0].delta for chunk in pieces if chunk.choices]
    thought = "".join(getattr(delta, "reasoning_content", None) or "" for delta in deltas)
    assert "reasoning is simulated" in thought, thought


def a_tool_is_called_and_its_output_is_used():
    messages = say("What is the weather in Oslo?")
    first = create(messages=messages, tools=[WEATHER])
    assert first.choices[0].finish_reason == "tool_calls", first
    calls = first.choices[0].message.tool_calls
    assert cities(calls) == ["Oslo"], calls
    messages += [first.choices[0].message, *run_tools(calls)]
    second = create(messages=messages, tools=[WEATHER])
    assert weather_in("Oslo") in second.choices[0].message.content, second


def tools_are_called_in_parallel():
    messages = say("What is the weather in Oslo and Rome?")
    first = create(messages=messages, tools=[WEATHER])
    calls = first.choices[0].message.tool_calls
    assert cities(calls) == ["Oslo", "Rome"], calls
    assert calls[0].id != calls[1].id, calls
    messages += [first.choices[0].message, *run_tools(calls)]
    text = create(messages=messages, tools=[WEATHER]).choices[0].message.content
    assert weather_in("Oslo") in text and weather_in("Rome") in text, text
    one = create(messages=say("Weather in Oslo and Rome?"), tools=[WEATHER], parallel_tool_calls=False)
    assert len(one.choices[0].message.tool_calls) == 1, one


def a_loop_of_typed_tools_ends_in_an_answer():
    messages, asked = say("What is the weather in Oslo and Rome?"), []
    for _ in range(4):
        message = (
            client.chat.completions.parse(
                model=MODEL, messages=messages, tools=[openai.pydantic_function_tool(GetWeather)]
            )
            .choices[0]
            .message
        )
        messages.append(message)
        if not message.tool_calls:
            break
        for call in message.tool_calls:
            asked.append(call.function.parsed_arguments.city)
            messages.append({"role": "tool", "tool_call_id": call.id, "content": weather_in(asked[-1])})
    assert asked == ["Oslo", "Rome"], asked
    assert all(weather_in(city) in message.content for city in asked), message


def calls_stream_with_their_indices():
    pieces = create(messages=say("Weather in Oslo and Rome?"), tools=[WEATHER], stream=True)
    arguments = {}
    for chunk in pieces:
        for call in (chunk.choices[0].delta.tool_calls or []) if chunk.choices else []:
            arguments[call.index] = arguments.get(call.index, "") + (call.function.arguments or "")
    assert [json.loads(arguments[index])["city"] for index in (0, 1)] == ["Oslo", "Rome"], arguments


def a_tool_can_be_demanded_and_forbidden():
    named = {"type": "function", "function": {"name": "get_weather"}}
    for choice in ("required", named):
        answer = create(messages=say("Hello"), tools=[WEATHER], tool_choice=choice)
        assert answer.choices[0].message.tool_calls[0].function.name == "get_weather", answer
    answer = create(messages=say("Weather in Oslo?"), tools=[WEATHER], tool_choice="none")
    assert not answer.choices[0].message.tool_calls, answer


def a_custom_tool_takes_plain_text():
    tool = {"type": "custom", "custom": {"name": "run_query", "description": "Runs a query."}}
    answer = create(messages=say("Call run_query for me"), tools=[tool])
    call = answer.choices[0].message.tool_calls[0]
    assert (call.type, call.custom.name, call.custom.input) == ("custom", "run_query", "Call run_query for me"), call


def a_picture_is_seen():
    content = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": red_dot()}}]
    answer = create(messages=[{"role": "user", "content": content}])
    assert "I see 1 image" in answer.choices[0].message.content, answer


def an_answer_is_parsed_into_a_model():
    answer = client.chat.completions.parse(model=MODEL, messages=say("Extract: Bob is 5."), response_format=Person)
    person = answer.choices[0].message.parsed
    assert (person.name, person.age) == ("Bob", 5), person


def json_mode_answers_json():
    answer = create(messages=say("Name a colour."), response_format={"type": "json_object"})
    assert json.loads(answer.choices[0].message.content)["demo"] is True, answer


def a_stop_sequence_ends_the_answer():
    answer = create(messages=say("Hello"), stop=["no model"])
    assert answer.choices[0].message.content == "This is a simulated response from the codex-proxy demo: ", answer
    assert answer.choices[0].finish_reason == "stop", answer


def a_refusal_is_a_refusal():
    answer = client.chat.completions.parse(model=MODEL, messages=say("demo:refuse"), response_format=Person)
    message = answer.choices[0].message
    assert message.refusal and message.parsed is None, message


def an_answer_that_is_too_long_to_parse_says_so():
    error = fails_with(
        openai.LengthFinishReasonError,
        lambda: client.chat.completions.parse(model=MODEL, messages=say("demo:length"), response_format=Person),
    )
    assert error.completion.choices[0].finish_reason == "length", error


def refused(param, **request):
    error = fails_with(openai.BadRequestError, lambda: create(**{"messages": say("Hello"), **request}))
    assert error.param == param, f"param {error.param!r}: {error}"
    assert error.type == "invalid_request_error", error
    assert error.request_id, "an id to ask about"


def bad_requests_name_the_parameter():
    refused("n", n=2)
    refused("logprobs", logprobs=True)
    refused("messages", messages=[])
    refused("messages[0].role", messages=[{"role": "wizard", "content": "Hello"}])
    refused("reasoning_effort", reasoning_effort="huge")
    refused("tool_choice", tool_choice="required")


def an_unknown_model_is_not_found():
    error = fails_with(openai.NotFoundError, lambda: client.models.retrieve("no-such-model"))
    assert error.code == "model_not_found", error


def a_foreign_page_is_denied():
    page = client.with_options(default_headers={"origin": "https://evil.invalid"})
    fails_with(openai.PermissionDeniedError, page.models.list)


def an_exhausted_quota_is_reported_once():
    error = fails_with(openai.RateLimitError, lambda: create(messages=say("demo:usage-limit")))
    assert error.code == "usage_limit_reached", error
    assert error.response.headers["x-should-retry"] == "false", error.response.headers


def a_context_that_is_too_long_is_a_bad_request():
    error = fails_with(openai.BadRequestError, lambda: create(messages=say("demo:context"), stream=True))
    assert error.code == "context_length_exceeded", error


def an_overloaded_backend_is_an_internal_server_error():
    error = fails_with(openai.InternalServerError, lambda: create(messages=say("demo:overloaded"), stream=True))
    assert error.response.headers["x-should-retry"] == "false", error.response.headers


def an_answer_that_breaks_is_an_error():
    for word in ("demo:cut", "demo:end", "demo:error"):
        messages = say(f"{word} please, and say much")
        fails_with(openai.APIError, lambda: list(create(messages=messages, stream=True)))
        fails_with(openai.InternalServerError, lambda: create(messages=messages))


run(
    "python",
    [
        models_are_listed_and_retrieved,
        create_answers,
        headers_are_there,
        headers_come_before_a_stream,
        stream_answers,
        a_stream_equals_the_whole_answer,
        the_stream_helper_gathers_text,
        the_stream_helper_gathers_calls,
        thinking_is_shown,
        a_tool_is_called_and_its_output_is_used,
        tools_are_called_in_parallel,
        a_loop_of_typed_tools_ends_in_an_answer,
        calls_stream_with_their_indices,
        a_tool_can_be_demanded_and_forbidden,
        a_custom_tool_takes_plain_text,
        a_picture_is_seen,
        an_answer_is_parsed_into_a_model,
        json_mode_answers_json,
        a_stop_sequence_ends_the_answer,
        a_refusal_is_a_refusal,
        an_answer_that_is_too_long_to_parse_says_so,
        bad_requests_name_the_parameter,
        an_unknown_model_is_not_found,
        a_foreign_page_is_denied,
        an_exhausted_quota_is_reported_once,
        a_context_that_is_too_long_is_a_bad_request,
        an_overloaded_backend_is_an_internal_server_error,
        an_answer_that_breaks_is_an_error,
    ],
)
