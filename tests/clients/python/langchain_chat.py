"""LangChain's `ChatOpenAI` against the demo, by Chat Completions and by Responses.

Usage: langchain_chat.py BASE_URL
"""

import os

# Telemetry is enabled by variables in the environment.
os.environ["LANGSMITH_TRACING"] = "false"

import openai
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel

from harness import BASE_URL, MODEL, NO_MODEL, fails_with, red_dot, run, weather_in



def speaking(responses, **settings):
    return ChatOpenAI(
        base_url=BASE_URL,
        api_key="any key",
        model=MODEL,
        temperature=0,
        stream_usage=True,
        use_responses_api=responses,
        **settings,
    )


class Person(BaseModel):
    """A person."""

    name: str
    age: int


@tool
def get_weather(city: str) -> str:
    """The weather in a city."""
    return weather_in(city)


def invoke_answers(chat):
    answer = chat.invoke([SystemMessage("Be brief."), HumanMessage("Good morning")])
    assert NO_MODEL in answer.text and "Good morning" in answer.text, answer
    ended = answer.response_metadata.get("finish_reason") or answer.response_metadata["status"]
    assert ended in ("stop", "completed"), answer
    assert answer.response_metadata["model_name"] == MODEL, answer


def usage_is_reported(chat):
    usage = chat.invoke("Hello").usage_metadata
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"] > 0, usage
    assert set(usage["output_token_details"]) >= {"reasoning"}, usage
    assert set(usage["input_token_details"]) >= {"cache_read"}, usage


def stream_answers(chat):
    pieces = list(chat.stream("Good morning"))
    whole = pieces[0]
    for piece in pieces[1:]:
        whole += piece
    assert len(pieces) > 4 and NO_MODEL in whole.text, whole
    assert whole.usage_metadata["total_tokens"] > 0, whole


async def astream_answers(chat):
    text = "".join([piece.text async for piece in chat.astream("Good morning")])
    assert NO_MODEL in text, text


def batches_answer(chat):
    answers = chat.batch(["Number one", "Number two"])
    assert "Number one" in answers[0].text and "Number two" in answers[1].text, answers


def bound_tools_are_called_and_their_outputs_used(chat):
    able = chat.bind_tools([get_weather])
    messages = [HumanMessage("What is the weather in Oslo and Rome?")]
    messages.append(able.invoke(messages))
    calls = messages[-1].tool_calls
    assert [call["args"] for call in calls] == [{"city": "Oslo"}, {"city": "Rome"}], calls
    messages += [get_weather.invoke(call) for call in calls]
    assert all(isinstance(message, ToolMessage) for message in messages[2:]), messages
    answer = able.invoke(messages)
    assert not answer.tool_calls and weather_in("Oslo") in answer.text and weather_in("Rome") in answer.text, answer


def calls_stream(chat):
    whole = None
    for piece in chat.bind_tools([get_weather]).stream("Weather in Oslo and Rome?"):
        whole = piece if whole is None else whole + piece
    assert [call["args"]["city"] for call in whole.tool_calls] == ["Oslo", "Rome"], whole


def a_tool_can_be_demanded(chat):
    for choice in ("any", "get_weather"):
        answer = chat.bind_tools([get_weather], tool_choice=choice, parallel_tool_calls=False).invoke("Hello")
        assert [call["name"] for call in answer.tool_calls] == ["get_weather"], answer


def structured_output_is_a_model(chat):
    for method in ("json_schema", "function_calling"):
        person = chat.with_structured_output(Person, method=method).invoke("Extract: Bob is 5.")
        assert person == Person(name="Bob", age=5), (method, person)


def structured_output_streams(chat):
    last = None
    for last in chat.with_structured_output(Person).stream("Extract: Bob is 5."):
        pass
    assert last == Person(name="Bob", age=5), last


def json_mode_answers_json(chat):
    answer = chat.with_structured_output(None, method="json_mode").invoke("Answer in JSON: a colour")
    assert answer["demo"] is True, answer


def a_picture_is_seen(chat):
    content = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": red_dot()}}]
    assert "I see 1 image" in chat.invoke([HumanMessage(content)]).text


def history_of_another_provider_is_taken(chat):
    history = [
        HumanMessage("Weather in Oslo?"),
        AIMessage("", tool_calls=[{"name": "get_weather", "args": {"city": "Oslo"}, "id": "toolu_01"}]),
        ToolMessage(weather_in("Oslo"), tool_call_id="toolu_01"),
    ]
    assert weather_in("Oslo") in chat.bind_tools([get_weather]).invoke(history).text


def errors_have_their_classes(chat):
    fails_with(openai.RateLimitError, lambda: chat.invoke("demo:usage-limit"))
    huge = chat.bind(reasoning={"effort": "huge"}) if chat.use_responses_api else chat.bind(n=2)
    fails_with(openai.BadRequestError, lambda: huge.invoke("Hello"))


def a_conversation_continues_by_id():
    chat = speaking(True, use_previous_response_id=True).bind_tools([get_weather])
    messages = [HumanMessage("What is the weather in Oslo?")]
    messages.append(chat.invoke(messages))
    messages += [get_weather.invoke(call) for call in messages[-1].tool_calls]
    answer = chat.invoke(messages)
    assert weather_in("Oslo") in answer.text, answer
    kept = openai.OpenAI(base_url=BASE_URL, api_key="any key").responses.retrieve(answer.response_metadata["id"])
    assert kept.previous_response_id == messages[1].response_metadata["id"], kept


CHECKS = [
    invoke_answers,
    usage_is_reported,
    stream_answers,
    astream_answers,
    batches_answer,
    bound_tools_are_called_and_their_outputs_used,
    calls_stream,
    a_tool_can_be_demanded,
    structured_output_is_a_model,
    structured_output_streams,
    json_mode_answers_json,
    a_picture_is_seen,
    history_of_another_provider_is_taken,
    errors_have_their_classes,
]


def checks_of(api, chat):
    def named(check):
        def called():
            return check(chat)

        called.__name__ = f"{api}: {check.__name__}"
        return called

    return [named(check) for check in CHECKS]


run(
    "langchain",
    [
        *checks_of("chat", speaking(False)),
        *checks_of("responses", speaking(True)),
        a_conversation_continues_by_id,
    ],
)
