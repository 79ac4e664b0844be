"""The official Python SDK, speaking Responses, against the demo. Usage: openai_responses.py BASE_URL

Prints `ok …` or `FAILED …` for each check; the exit code is 0 if all passed.
"""

import json
import sys
import traceback

import openai
from pydantic import BaseModel

NO_MODEL = "no model wrote this"
WEATHER = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather in a city.",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    },
    "strict": True,
}

client = openai.OpenAI(base_url=sys.argv[1], api_key="any key")
model = client.models.list().data[0].id


def create(**request):
    return client.responses.create(model=model, **request)


def a_text_is_answered():
    response = create(input="Hello", metadata={"k": "v"})
    assert NO_MODEL in response.output_text, response
    assert response.status == "completed" and response.model == model, response
    assert response.metadata == {"k": "v"} and response.usage.total_tokens > 0, response


def a_stream_equals_the_whole_answer():
    events = list(create(input="Hello", stream=True))
    assert events[0].type == "response.created" and events[-1].type == "response.completed", events
    assert [event.sequence_number for event in events] == list(range(len(events))), events
    reported = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert reported == events[-1].response.output_text == create(input="Hello").output_text, reported


def the_stream_helper_follows():
    with client.responses.stream(model=model, input="Hello") as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_response()
    assert kinds[0] == "response.created", kinds
    assert NO_MODEL in final.output_text, final


def a_tool_is_called_and_its_output_is_used():
    question = {"role": "user", "content": "Use the tool: what is the weather in Oslo?"}
    first = create(input=[question], tools=[WEATHER])
    call = next(item for item in first.output if item.type == "function_call")
    assert json.loads(call.arguments)["city"] == "Oslo", call
    output = {"type": "function_call_output", "call_id": call.call_id, "output": "12 degrees in Oslo"}
    second = create(input=[question, *first.output, output], tools=[WEATHER])
    assert "12 degrees in Oslo" in second.output_text, second


def a_conversation_continues_by_id():
    question = "Use the tool: what is the weather in Oslo?"
    first = create(input=question, tools=[WEATHER])
    call = next(item for item in first.output if item.type == "function_call")
    output = {"type": "function_call_output", "call_id": call.call_id, "output": "12 degrees in Oslo"}
    second = create(input=[output], previous_response_id=first.id, tools=[WEATHER])
    assert "12 degrees in Oslo" in second.output_text, second
    assert second.previous_response_id == first.id, second


def a_stored_response_can_be_retrieved_and_deleted():
    created = create(input="Hello")
    assert client.responses.retrieve(created.id).output_text == created.output_text
    items = list(client.responses.input_items.list(created.id))
    assert items[0].content[0].text == "Hello", items
    client.responses.delete(created.id)
    try:
        client.responses.retrieve(created.id)
    except openai.NotFoundError:
        pass
    else:
        raise AssertionError("it is still there")


def a_call_streams_its_arguments():
    question = "Use the tool: what is the weather in Oslo?"
    with client.responses.stream(model=model, input=question, tools=[WEATHER]) as stream:
        done = [event for event in stream if event.type == "response.function_call_arguments.done"]
        final = stream.get_final_response()
    call = next(item for item in final.output if item.type == "function_call")
    assert len(done) == 1 and done[0].name == "get_weather" and done[0].arguments == call.arguments, done


class Person(BaseModel):
    name: str
    age: int


def an_answer_is_parsed_into_a_model():
    response = client.responses.parse(model=model, input="Extract: Bob is 30", text_format=Person)
    assert response.output_parsed == Person(name="Bob", age=30), response


def a_conversation_is_compacted_and_continues():
    first = create(input="My name is Ann.")
    for request in ({"input": "My name is Ann."}, {"previous_response_id": first.id}):
        compacted = client.responses.compact(model=model, **request)
        assert compacted.object == "response.compaction" and compacted.usage.total_tokens > 0, compacted
        assert [item.type for item in compacted.output] == ["message", "compaction"], compacted
        second = create(input=[*compacted.output, {"role": "user", "content": "Good night"}])
        assert "Good night" in second.output_text, second


def the_input_is_counted():
    few = client.responses.input_tokens.count(model=model, input="hello world")
    many = client.responses.input_tokens.count(model=model, input="hello world " * 100)
    assert few.object == "response.input_tokens" and 150 < many.input_tokens - few.input_tokens < 250, (few, many)


def nothing_can_be_cancelled():
    created = create(input="Hello")
    try:
        client.responses.cancel(created.id)
    except openai.BadRequestError as error:
        assert "synchronous" in str(error), error
    else:
        raise AssertionError("it was cancelled")


def thinking_is_shown():
    response = create(input="Think: what is 2 + 2?", reasoning={"effort": "high", "summary": "auto"})
    assert any(item.type == "reasoning" for item in response.output), response


def a_bad_request_names_the_parameter():
    for param, request in {
        "store": {"input": "Hello", "background": True, "store": False},
        "reasoning.effort": {"input": "Hello", "reasoning": {"effort": "huge"}},
        "previous_response_id": {"input": "Hello", "previous_response_id": "resp_unknown"},
    }.items():
        try:
            create(**request)
        except openai.BadRequestError as error:
            assert error.param == param, error
        else:
            raise AssertionError(f"{param} was taken")


CHECKS = [
    a_text_is_answered,
    a_stream_equals_the_whole_answer,
    the_stream_helper_follows,
    a_tool_is_called_and_its_output_is_used,
    a_conversation_continues_by_id,
    a_stored_response_can_be_retrieved_and_deleted,
    a_call_streams_its_arguments,
    an_answer_is_parsed_into_a_model,
    a_conversation_is_compacted_and_continues,
    the_input_is_counted,
    nothing_can_be_cancelled,
    thinking_is_shown,
    a_bad_request_names_the_parameter,
]


def main():
    failures = 0
    for check in CHECKS:
        name = check.__name__.replace("_", " ")
        try:
            check()
            print(f"ok python responses {name}", flush=True)
        except Exception as error:
            failures += 1
            print(f"FAILED python responses {name}: {type(error).__name__}: {error}", flush=True)
            traceback.print_exc()
    return 1 if failures else 0


sys.exit(main())
