"""Ollama's own Python client against the demo. Usage: ollama_api.py BASE_URL"""

import base64
import json

import ollama

from harness import BASE_URL, MODEL, NO_MODEL, WEATHER, fails_with, red_dot, run, say, weather_in

client = ollama.Client(host=BASE_URL.removesuffix("/v1"))
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
}


def chat(messages, **request):
    return client.chat(model=MODEL, messages=messages, **request)


def models_are_listed_and_shown():
    listed = [model.model for model in client.list().models]
    assert MODEL in listed, listed
    for name in (MODEL, f"{MODEL}:latest"):
        shown = client.show(name)
        architecture = shown.modelinfo["general.architecture"]
        assert shown.modelinfo[f"{architecture}.context_length"] > 100_000, shown.modelinfo
        assert {"completion", "tools", "thinking", "vision"} <= set(shown.capabilities), shown.capabilities
    assert client.ps().models == []


def a_conversation_is_answered():
    answer = chat(say("Hello"), options={"num_ctx": 8192, "temperature": 0.8}, keep_alive="5m")
    assert NO_MODEL in answer.message.content and answer.message.role == "assistant", answer
    assert answer.model == MODEL and answer.done and answer.done_reason == "stop", answer
    assert answer.eval_count > 0 and answer.prompt_eval_count > 0 and answer.eval_duration > 0, answer


def a_conversation_streams():
    parts = list(chat(say("Hello"), stream=True))
    text = "".join(part.message.content for part in parts)
    assert len(parts) > 4 and NO_MODEL in text, text
    assert [part.done for part in parts] == [False] * (len(parts) - 1) + [True], parts
    assert text == chat(say("Hello")).message.content, text


def thinking_is_shown_unless_it_is_off():
    for think in (True, "high"):
        parts = list(chat(say("Hello"), think=think, stream=True))
        thinking = "".join(part.message.thinking or "" for part in parts)
        assert "reasoning is simulated" in thinking, thinking
        assert thinking == chat(say("Hello"), think=think).message.thinking, think
    assert chat(say("Hello"), think=False).message.thinking is None


def tools_are_called_and_answered():
    messages = say("What is the weather in Oslo and in Rome? Call both tools in parallel.")
    for stream in (False, True):
        answer = chat(messages, tools=[WEATHER], stream=stream)
        parts = list(answer) if stream else [answer]
        calls = [call for part in parts for call in part.message.tool_calls or []]
        assert calls and all(call.function.name == "get_weather" for call in calls), parts
        cities = [call.function.arguments["city"] for call in calls]
        assert cities[0] == "Oslo", cities
    said = ollama.Message(role="assistant", tool_calls=calls)
    results = [{"role": "tool", "tool_name": "get_weather", "content": weather_in(city)} for city in cities]
    after = chat([*messages, said, *results], tools=[WEATHER])
    assert all(weather_in(city) in after.message.content for city in cities), after


def a_python_function_is_a_tool():
    def get_weather(city: str) -> str:
        """The weather in a city.

        Args:
            city: Name of the city.
        """
        return weather_in(city)

    call = chat(say("What is the weather in Oslo?"), tools=[get_weather]).message.tool_calls[0]
    assert get_weather(**call.function.arguments), call


def answers_have_a_format():
    for schema in (PERSON, {**PERSON, "additionalProperties": False}):
        person = json.loads(chat(say("Ann is 31 years old."), format=schema).message.content)
        assert isinstance(person["name"], str) and isinstance(person["age"], int), person
    assert isinstance(json.loads(chat(say("Tell me of Ann."), format="json").message.content), dict)


def pictures_are_looked_at():
    picture = base64.b64decode(red_dot().split(",")[1])
    answer = chat([{"role": "user", "content": "What is this?", "images": [picture]}])
    assert "1 picture" in answer.message.content or "image" in answer.message.content, answer


def a_prompt_is_answered():
    answer = client.generate(model=MODEL, prompt="Hello", system="Be brief.")
    assert NO_MODEL in answer.response and answer.thinking and answer.done_reason == "stop", answer
    parts = list(client.generate(model=MODEL, prompt="Hello", system="Be brief.", stream=True))
    assert "".join(part.response for part in parts) == answer.response, parts
    stopped = client.generate(model=MODEL, prompt="Hello", options={"stop": ["no model"]})
    assert stopped.response == "This is a simulated response from the codex-proxy demo: ", stopped


def a_model_is_always_loaded():
    assert client.generate(model=MODEL).done_reason == "load"
    assert chat([], keep_alive=0).done_reason == "unload"


def errors_are_those_of_the_client():
    for words, call in [
        ("embeddings", lambda: client.embed(model=MODEL, input="Hello")),
        ("/api/tags", lambda: client.pull("llama3")),
        ("/api/tags", lambda: client.delete("llama3")),
        ("raw", lambda: client.generate(model=MODEL, prompt="Hello", raw=True)),
        ("'llama3'", lambda: client.show("llama3")),
        ("usage limit", lambda: chat(say("demo:usage-limit"))),
    ]:
        error = fails_with(ollama.ResponseError, call)
        assert words in error.error and error.status_code >= 400, f"{error.status_code}: {error.error}"


def a_cut_stream_is_an_error():
    parts = []
    error = fails_with(ollama.ResponseError, lambda: parts.extend(chat(say("demo:cut"), stream=True)))
    assert "incomplete" in error.error, error.error
    assert not any(part.done for part in parts), parts


run(
    "python ollama",
    [
        models_are_listed_and_shown,
        a_conversation_is_answered,
        a_conversation_streams,
        thinking_is_shown_unless_it_is_off,
        tools_are_called_and_answered,
        a_python_function_is_a_tool,
        answers_have_a_format,
        pictures_are_looked_at,
        a_prompt_is_answered,
        a_model_is_always_loaded,
        errors_are_those_of_the_client,
        a_cut_stream_is_an_error,
    ],
)
