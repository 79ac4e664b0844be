"""Legacy and unsupported parts of the OpenAI API, with the Python SDK. Usage: openai_legacy.py BASE_URL"""

import httpx2
import openai

from harness import BASE_URL, MODEL, NO_MODEL, WEATHER, fails_with, run, say

client = openai.OpenAI(base_url=BASE_URL, api_key="any key", max_retries=0)
ROOT = BASE_URL.removesuffix("/v1")


def complete(**request):
    return client.completions.create(model=MODEL, **request)


def a_text_is_completed():
    for prompt in ("Once upon a time", ["Once upon a time"]):
        answer = complete(prompt=prompt)
        assert answer.object == "text_completion" and answer.model == MODEL, answer
        assert NO_MODEL in answer.choices[0].text, answer
        assert answer.choices[0].finish_reason == "stop", answer
        assert answer.usage.total_tokens > 0, answer


def a_completion_streams():
    chunks = list(complete(prompt="Once upon a time", stream=True, stream_options={"include_usage": True}))
    text = "".join(chunk.choices[0].text for chunk in chunks if chunk.choices)
    assert len(chunks) > 4 and NO_MODEL in text, text
    assert chunks[-1].choices == [] and chunks[-1].usage.total_tokens > 0, chunks[-1]
    assert text == complete(prompt="Once upon a time").choices[0].text, text


def a_completion_stops():
    answer = complete(prompt="Once upon a time", stop="no model")
    assert answer.choices[0].text == "This is a simulated response from the codex-proxy demo: ", answer


def what_a_completion_can_not_do_is_refused():
    for param, request in [("suffix", {"suffix": "the end"}), ("echo", {"echo": True}), ("prompt", {"prompt": ["a", "b"]})]:
        error = fails_with(openai.BadRequestError, lambda: complete(**{"prompt": "Once", **request}))
        assert error.param == param, f"{param}: {error.param}: {error}"


def what_a_subscription_has_not_is_said():
    for call in [
        lambda: client.embeddings.create(model="text-embedding-3-small", input="Hello"),
        lambda: client.audio.speech.create(model="tts-1", voice="alloy", input="Hello"),
        lambda: client.audio.translations.create(model="whisper-1", file=("a.wav", b"RIFF")),
    ]:
        error = fails_with(openai.InternalServerError, call)
        assert error.status_code == 501, error
        assert error.response.headers["x-should-retry"] == "false", error.response.headers


def functions_of_the_old_kind_are_called():
    functions = [WEATHER["function"]]
    messages = say("What is the weather in Oslo?")
    first = client.chat.completions.create(model=MODEL, messages=messages, functions=functions)
    call = first.choices[0].message.function_call
    assert first.choices[0].finish_reason == "function_call" and call.name == "get_weather", first
    messages += [first.choices[0].message, {"role": "function", "name": call.name, "content": "12 degrees in Oslo"}]
    second = client.chat.completions.create(model=MODEL, messages=messages, functions=functions)
    assert "12 degrees in Oslo" in second.choices[0].message.content, second


def a_deployment_is_a_model():
    azure = openai.AzureOpenAI(azure_endpoint=ROOT, api_key="any key", api_version="2024-10-21", max_retries=0)
    answer = azure.chat.completions.create(model=MODEL, messages=say("Hello"))
    assert NO_MODEL in answer.choices[0].message.content and answer.model == MODEL, answer


def a_base_without_a_version_works():
    for base in (ROOT, f"{ROOT}/openai/v1"):
        answer = client.with_options(base_url=base).chat.completions.create(model=MODEL, messages=say("Hello"))
        assert NO_MODEL in answer.choices[0].message.content, answer


def a_body_of_the_newer_api_is_answered_on_the_chat_path():
    tool = {"type": "function", **WEATHER["function"]}
    body = {"model": MODEL, "input": "What is the weather in Oslo?", "tools": [tool], "stream": False}
    answer = httpx2.post(f"{BASE_URL}/chat/completions", json=body, timeout=30).json()
    call = answer["choices"][0]["message"]["tool_calls"][0]
    assert call["function"] == {"name": "get_weather", "arguments": '{"city":"Oslo"}'}, answer


run(
    "python legacy",
    [
        a_text_is_completed,
        a_completion_streams,
        a_completion_stops,
        what_a_completion_can_not_do_is_refused,
        what_a_subscription_has_not_is_said,
        functions_of_the_old_kind_are_called,
        a_deployment_is_a_model,
        a_base_without_a_version_works,
        a_body_of_the_newer_api_is_answered_on_the_chat_path,
    ],
)
