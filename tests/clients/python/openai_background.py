"""Background responses and conversations with the official Python SDK. Usage: openai_background.py BASE_URL"""

import time

import openai

from harness import BASE_URL, MODEL, NO_MODEL, run

client = openai.OpenAI(base_url=BASE_URL, api_key="any key", max_retries=0)


def create(**request):
    return client.responses.create(model=MODEL, background=True, **request)


def finished(response):
    """Polls as OpenAI's guide does."""
    deadline = time.monotonic() + 60
    while response.status in {"queued", "in_progress"} and time.monotonic() < deadline:
        time.sleep(0.05)
        response = client.responses.retrieve(response.id)
    return response


def a_background_response_is_polled():
    created = create(input="Hello")
    assert created.status == "queued" and created.background is True and created.output == [], created
    done = finished(created)
    assert done.status == "completed" and NO_MODEL in done.output_text, done
    assert (done.id, done.created_at) == (created.id, created.created_at), done


def a_cut_stream_is_resumed():
    seen = []
    with create(input="Hello demo:slow", stream=True) as stream:
        for event in stream:
            seen.append(event)
            if event.type == "response.output_text.delta":
                break
    response = seen[0].response
    assert [event.type for event in seen[:2]] == ["response.created", "response.queued"], seen
    after = seen[-1].sequence_number
    rest = list(client.responses.retrieve(response.id, stream=True, starting_after=after))
    numbers = [event.sequence_number for event in [*seen, *rest]]
    assert numbers == list(range(len(numbers))), numbers
    assert rest[-1].type == "response.completed", rest[-1]
    text = "".join(event.delta for event in [*seen, *rest] if event.type == "response.output_text.delta")
    assert text == rest[-1].response.output_text == client.responses.retrieve(response.id).output_text, text


def the_stream_helper_resumes():
    created = create(input="Hello")
    finished(created)
    with client.responses.stream(response_id=created.id) as stream:
        final = stream.get_final_response()
    assert NO_MODEL in final.output_text, final


def a_background_response_is_cancelled():
    created = create(input="Hello demo:slow")
    cancelled = client.responses.cancel(created.id)
    assert cancelled.status == "cancelled" and cancelled.id == created.id, cancelled
    assert client.responses.cancel(created.id).status == "cancelled"
    assert client.responses.retrieve(created.id).status == "cancelled"


def a_failure_is_in_the_response():
    failed = finished(create(input="demo:error"))
    assert failed.status == "failed" and failed.error.code == "server_error", failed


def an_unstored_background_response_is_refused():
    try:
        create(input="Hello", store=False)
    except openai.BadRequestError as error:
        assert error.param == "store", error
    else:
        raise AssertionError("it was accepted")


def a_conversation_has_two_turns():
    conversation = client.conversations.create(
        items=[{"type": "message", "role": "user", "content": "My name is Ann."}], metadata={"topic": "demo"}
    )
    first = client.responses.create(model=MODEL, input="Hello", conversation=conversation.id)
    assert first.conversation.id == conversation.id, first
    second = client.responses.create(model=MODEL, input="Goodbye", conversation={"id": conversation.id})
    assert "Goodbye" in second.output_text, second
    listed = list(client.conversations.items.list(conversation.id, order="asc", limit=2))
    items = [item for item in listed if item.type == "message"]
    assert [item.role for item in items] == ["user", "user", "assistant", "user", "assistant"], items
    assert items[0].content[0].text == "My name is Ann." and items[0].status == "completed", items[0]
    client.conversations.items.delete(items[0].id, conversation_id=conversation.id)
    added = client.conversations.items.create(conversation.id, items=[{"role": "user", "content": "One more"}])
    one = client.conversations.items.retrieve(added.data[0].id, conversation_id=conversation.id)
    assert one.content[0].text == "One more", one
    assert client.conversations.update(conversation.id, metadata={"a": "b"}).metadata == {"a": "b"}
    assert client.conversations.retrieve(conversation.id).metadata == {"a": "b"}
    assert client.conversations.delete(conversation.id).deleted is True
    try:
        client.conversations.retrieve(conversation.id)
    except openai.NotFoundError:
        pass
    else:
        raise AssertionError("it is still there")


def a_background_response_continues_a_conversation():
    conversation = client.conversations.create()
    created = create(input="Hello", conversation=conversation.id)
    try:
        client.responses.create(model=MODEL, input="Now", conversation=conversation.id)
    except openai.BadRequestError as error:
        assert error.code == "conversation_locked", error
    finished(created)
    items = list(client.conversations.items.list(conversation.id))
    assert items[-1].content[0].text == "Hello" and len(items) >= 2, items


run(
    "python background",
    [
        a_background_response_is_polled,
        a_cut_stream_is_resumed,
        the_stream_helper_resumes,
        a_background_response_is_cancelled,
        a_failure_is_in_the_response,
        an_unstored_background_response_is_refused,
        a_conversation_has_two_turns,
        a_background_response_continues_a_conversation,
    ],
)
