"""The Google Gen AI SDK for Python against the demo. Usage: google_genai.py BASE_URL"""

import base64
import json

from google import genai
from google.genai import errors, types
from pydantic import BaseModel

from harness import BASE_URL, MODEL, NO_MODEL, fails_with, red_dot, run, weather_in

ROOT_URL = BASE_URL.removesuffix("/v1")
client = genai.Client(api_key="anything", http_options={"base_url": ROOT_URL})
older = genai.Client(api_key="anything", http_options={"base_url": ROOT_URL, "api_version": "v1beta"})
WEATHER = types.Tool(
    function_declarations=[
        types.FunctionDeclaration(
            name="get_weather",
            description="The weather in a city.",
            parameters=types.Schema(
                type="OBJECT", properties={"city": types.Schema(type="STRING")}, required=["city"]
            ),
        )
    ]
)
NOT_CALLED = types.AutomaticFunctionCallingConfig(disable=True)


class Person(BaseModel):
    name: str
    age: int


def ask(contents, of=client, **config):
    return of.models.generate_content(
        model=MODEL, contents=contents, config=types.GenerateContentConfig(**config) if config else None
    )


def stream(contents, **config):
    return client.models.generate_content_stream(
        model=MODEL, contents=contents, config=types.GenerateContentConfig(**config) if config else None
    )


def models_are_listed():
    listed = list(client.models.list())
    assert f"models/{MODEL}" in [model.name for model in listed], listed
    assert [model.name for model in client.models.list(config={"page_size": 1})] == [model.name for model in listed]
    assert client.models.get(model=MODEL).input_token_limit > 100_000


def a_prompt_is_answered():
    for of in (client, older):
        answer = ask("Hello", of, system_instruction="Be brief.", temperature=0.5)
        assert NO_MODEL in answer.text and answer.model_version == MODEL, answer
        assert answer.candidates[0].finish_reason == types.FinishReason.STOP, answer
        assert answer.usage_metadata.total_token_count > 0 and answer.response_id, answer


def a_prompt_streams():
    chunks = list(stream("Hello"))
    text = "".join(chunk.text for chunk in chunks)
    assert len(chunks) > 4 and text == ask("Hello").text, text
    assert [chunk.candidates[0].finish_reason for chunk in chunks][-2:] == [None, types.FinishReason.STOP]


async def a_prompt_streams_asynchronously():
    chunks = [chunk async for chunk in await client.aio.models.generate_content_stream(model=MODEL, contents="Hello")]
    assert NO_MODEL in "".join(chunk.text for chunk in chunks)


def a_chat_keeps_its_history():
    chat = client.chats.create(model=MODEL)
    assert NO_MODEL in "".join(chunk.text for chunk in chat.send_message_stream("Hello"))
    assert NO_MODEL in chat.send_message("And again").text
    assert len([content for content in chat.get_history(curated=True) if content.role == "user"]) == 2


def thoughts_are_shown_on_request():
    thinking = types.ThinkingConfig(include_thoughts=True, thinking_level="HIGH")
    parts = ask("Hello", thinking_config=thinking).candidates[0].content.parts
    assert "reasoning is simulated" in "".join(part.text for part in parts if part.thought), parts
    assert any(part.thought_signature for part in parts), parts
    assert not any(part.thought for part in ask("Hello").candidates[0].content.parts)


def functions_are_called_and_answered():
    prompt = "What is the weather in Oslo and in Rome? Call both tools in parallel."
    answer = ask(prompt, tools=[WEATHER], automatic_function_calling=NOT_CALLED)
    calls = answer.function_calls
    assert calls and all(call.name == "get_weather" and call.id for call in calls), answer
    results = [
        types.Part.from_function_response(name=call.name, response={"output": weather_in(call.args["city"])})
        for call in calls
    ]
    history = [
        types.Content(role="user", parts=[types.Part(text=prompt)]),
        answer.candidates[0].content,
        types.Content(role="user", parts=results),
    ]
    after = ask(history, tools=[WEATHER], automatic_function_calling=NOT_CALLED)
    assert all(weather_in(call.args["city"]) in after.text for call in calls), after


def a_python_function_is_called_by_the_sdk():
    def get_weather(city: str) -> str:
        """The weather in a city."""
        return weather_in(city)

    answer = client.models.generate_content(
        model=MODEL, contents="What is the weather in Oslo?", config={"tools": [get_weather]}
    )
    assert weather_in("Oslo") in answer.text, answer


def answers_have_a_schema():
    for config in ({"response_schema": Person}, {"response_json_schema": Person.model_json_schema()}):
        answer = ask("Ann is 31 years old.", response_mime_type="application/json", **config)
        person = Person.model_validate_json(answer.text)
        assert person.name, person
    assert isinstance(json.loads(ask("Tell me of Ann.", response_mime_type="application/json").text), dict)


def images_are_accepted():
    picture = types.Part.from_bytes(data=base64.b64decode(red_dot().split(",")[1]), mime_type="image/png")
    answer = ask(["What is this?", picture])
    assert "1 picture" in answer.text or "image" in answer.text, answer.text


def the_web_is_searched():
    answer = ask("Search the web", tools=[types.Tool(google_search=types.GoogleSearch())])
    found = answer.candidates[0].grounding_metadata
    assert found.web_search_queries and found.grounding_chunks[0].web.uri.startswith("https://"), answer
    cited = found.grounding_supports[0].segment
    assert answer.text.encode()[cited.start_index or 0 : cited.end_index].decode() == cited.text, answer


def tokens_are_counted():
    few = client.models.count_tokens(model=MODEL, contents="Hello").total_tokens
    assert client.models.count_tokens(model=MODEL, contents="Hello " * 100).total_tokens > few > 0


def errors_are_those_of_the_client():
    for code, status, words, call in [
        (429, "RESOURCE_EXHAUSTED", "usage limit", lambda: ask("demo:usage-limit")),
        (404, "NOT_FOUND", "'llama3'", lambda: client.models.get(model="llama3")),
        (400, "INVALID_ARGUMENT", "candidateCount", lambda: ask("Hello", candidate_count=2)),
        (501, "UNIMPLEMENTED", "embeddings", lambda: older.models.embed_content(model=MODEL, contents="Hello")),
    ]:
        error = fails_with(errors.APIError, call)
        assert (error.code, error.status) == (code, status) and words in error.message, error


def a_cut_stream_is_an_error():
    chunks = []
    error = fails_with(errors.APIError, lambda: chunks.extend(stream("demo:cut")))
    assert error.code == 502 and "incomplete" in error.message, error
    assert not any(chunk.candidates[0].finish_reason for chunk in chunks), chunks


run(
    "python google-genai",
    [
        models_are_listed,
        a_prompt_is_answered,
        a_prompt_streams,
        a_prompt_streams_asynchronously,
        a_chat_keeps_its_history,
        thoughts_are_shown_on_request,
        functions_are_called_and_answered,
        a_python_function_is_called_by_the_sdk,
        answers_have_a_schema,
        images_are_accepted,
        the_web_is_searched,
        tokens_are_counted,
        errors_are_those_of_the_client,
        a_cut_stream_is_an_error,
    ],
)
