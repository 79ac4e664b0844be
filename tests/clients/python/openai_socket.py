"""The official Python SDK, speaking Responses over a WebSocket, against the demo. Usage: openai_socket.py BASE_URL

Prints `ok …` or `FAILED …` for each check; the exit code is 0 if all passed.
"""

import json
import sys
import traceback

import openai

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
ENDS = {"response.completed", "response.incomplete", "response.failed", "error"}

client = openai.OpenAI(base_url=sys.argv[1], api_key="any key")
model = client.models.list().data[0].id


def ask(connection, **request):
    """The events of a response."""
    connection.response.create(model=model, store=False, **request)
    events = []
    for event in connection:
        events.append(event)
        if event.type in ENDS:
            return events
    raise AssertionError("the connection ended before the response")


def a_text_streams_and_is_whole():
    with client.responses.connect() as connection:
        events = ask(connection, input="hello")
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert events[0].type == "response.created", events[0]
    assert NO_MODEL in text and events[-1].response.output_text == text, text
    assert [event.sequence_number for event in events] == list(range(len(events)))


def a_tool_loop_goes_on_by_id_without_being_stored():
    with client.responses.connect() as connection:
        first = ask(connection, input="What is the weather in Oslo?", tools=[WEATHER])[-1].response
        [call] = [item for item in first.output if item.type == "function_call"]
        assert set(json.loads(call.arguments)) == {"city"}, call
        output = {"type": "function_call_output", "call_id": call.call_id, "output": "12 degrees"}
        last = ask(connection, input=[output], tools=[WEATHER], previous_response_id=first.id)[-1]
        assert last.type == "response.completed" and "12 degrees" in last.response.output_text, last


def a_warmup_is_gone_on_from():
    with client.responses.connect() as connection:
        warm = ask(connection, input="Answer briefly.", generate=False)
        assert [event.type for event in warm] == ["response.created", "response.completed"], warm
        assert warm[-1].response.output == [] and warm[-1].response.usage.total_tokens == 0
        last = ask(connection, input="hello", previous_response_id=warm[-1].response.id)[-1]
        assert last.type == "response.completed", last


def events_name_their_lane():
    with client.responses.connect() as connection:
        for lane in ["planner", "critic"]:
            assert {event.stream_id for event in ask(connection, input="hello", stream_id=lane)} == {lane}


def an_unknown_id_is_an_error_and_the_connection_goes_on():
    with client.responses.connect() as connection:
        [reported] = ask(connection, input="more", previous_response_id="resp_unknown")
        assert reported.type == "error" and reported.error.code == "previous_response_not_found", reported
        assert reported.status == 400 and reported.error.param == "previous_response_id", reported
        assert ask(connection, input="hello")[-1].type == "response.completed"


CHECKS = [
    a_text_streams_and_is_whole,
    a_tool_loop_goes_on_by_id_without_being_stored,
    a_warmup_is_gone_on_from,
    events_name_their_lane,
    an_unknown_id_is_an_error_and_the_connection_goes_on,
]


def main():
    failures = 0
    for check in CHECKS:
        name = check.__name__.replace("_", " ")
        try:
            check()
            print(f"ok python socket {name}", flush=True)
        except Exception as error:
            failures += 1
            print(f"FAILED python socket {name}: {type(error).__name__}: {error}", flush=True)
            traceback.print_exc()
    return 1 if failures else 0


sys.exit(main())
