"""Files and batches with the official Python SDK. Usage: openai_files.py BASE_URL"""

import base64
import json
import time

import openai

from harness import BASE_URL, MODEL, NO_MODEL, fails_with, red_dot, run, say

client = openai.OpenAI(base_url=BASE_URL, api_key="any key", max_retries=0)
DOT = base64.b64decode(red_dot().split(",")[1])


def ended(batch):
    deadline = time.monotonic() + 60
    while batch.status in ("validating", "in_progress", "finalizing", "cancelling"):
        assert time.monotonic() < deadline, batch
        time.sleep(0.05)
        batch = client.batches.retrieve(batch.id)
    return batch


def results(file_id):
    return {line["custom_id"]: line["response"] for line in map(json.loads, client.files.content(file_id).text.splitlines())}


def a_file_is_uploaded_listed_read_and_deleted():
    content = b"a,b\n1,2\n" * 100_000
    file = client.files.create(
        file=("table.csv", content), purpose="user_data", expires_after={"anchor": "created_at", "seconds": 3600}
    )
    assert (file.bytes, file.filename, file.purpose, file.status) == (len(content), "table.csv", "user_data", "processed")
    assert file.expires_at - file.created_at == 3600, file
    assert client.files.retrieve(file.id) == file
    assert client.files.wait_for_processing(file.id) == file
    assert client.files.content(file.id).read() == content
    assert client.files.delete(file.id).deleted
    error = fails_with(openai.NotFoundError, lambda: client.files.retrieve(file.id))
    assert file.id in error.message, error


def a_list_of_files_is_paged_by_the_sdk():
    ids = [client.files.create(file=(f"{n}.txt", b"x"), purpose="assistants").id for n in range(3)]
    listed = [file.id for file in client.files.list(purpose="assistants", limit=2)]
    assert listed == ids[::-1], listed
    for file_id in ids:
        client.files.delete(file_id)


def invalid_uploads_are_the_sdk_s_errors():
    def upload(**fields):
        return lambda: client.files.create(**{"file": ("a.txt", b"x"), "purpose": "user_data", **fields})

    assert fails_with(openai.BadRequestError, upload(purpose="fine-tune")).param == "purpose"
    assert fails_with(openai.BadRequestError, upload(purpose="batch")).param == "file"


def an_image_is_named_by_its_file_id():
    file = client.files.create(file=("dot.png", DOT), purpose="vision")
    content = [{"type": "input_text", "text": "What is it?"}, {"type": "input_image", "file_id": file.id, "detail": "auto"}]
    answer = client.responses.create(model=MODEL, input=[{"role": "user", "content": content}])
    assert NO_MODEL in answer.output_text, answer
    missing = [{"type": "input_image", "file_id": "file-none", "detail": "auto"}]
    ask = lambda: client.responses.create(model=MODEL, input=[{"role": "user", "content": missing}])
    assert fails_with(openai.NotFoundError, ask).param == "input[0].content[0].file_id"


def a_document_is_named_by_its_file_id():
    file = client.files.create(file=("notes.txt", b"hello"), purpose="user_data")
    content = [{"type": "text", "text": "What is it?"}, {"type": "file", "file": {"file_id": file.id}}]
    answer = client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": content}])
    assert NO_MODEL in answer.choices[0].message.content, answer


def a_batch_of_fifty_lines_with_three_bad_ones_runs_to_its_end():
    def line(number):
        body = {"model": MODEL, "messages": say(f"Question {number}")}
        if number % 20 == 5:
            del body["messages"]
        return json.dumps({"custom_id": f"r{number}", "method": "POST", "url": "/v1/chat/completions", "body": body})

    lines = "\n".join(line(number) for number in range(50)).encode()
    file = client.files.create(file=("requests.jsonl", lines), purpose="batch")
    batch = client.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h", metadata={"a": "b"}
    )
    assert batch.status == "validating" and batch.metadata == {"a": "b"}, batch
    batch = ended(batch)
    assert batch.status == "completed" and batch.completed_at >= batch.in_progress_at >= batch.created_at, batch
    counts = batch.request_counts
    assert (counts.total, counts.completed, counts.failed) == (50, 47, 3), counts
    output, errors = results(batch.output_file_id), results(batch.error_file_id)
    assert len(output) == 47 and sorted(errors) == ["r25", "r45", "r5"], errors
    assert all(NO_MODEL in answer["body"]["choices"][0]["message"]["content"] for answer in output.values()), output
    assert all((error["status_code"], error["body"]["error"]["param"]) == (400, "messages") for error in errors.values())
    assert client.batches.list(limit=1).data[0] == batch
    assert fails_with(openai.BadRequestError, lambda: client.batches.cancel(batch.id)).code == "batch_ended"


def an_invalid_input_file_fails_the_batch():
    file = client.files.create(file=("requests.jsonl", b"no JSON\n"), purpose="batch")
    batch = client.batches.create(input_file_id=file.id, endpoint="/v1/responses", completion_window="24h")
    batch = ended(batch)
    assert batch.status == "failed", batch
    error = batch.errors.data[0]
    assert (error.code, error.line) == ("invalid_json_line", 1), error


run(
    "python files",
    [
        a_file_is_uploaded_listed_read_and_deleted,
        a_list_of_files_is_paged_by_the_sdk,
        invalid_uploads_are_the_sdk_s_errors,
        an_image_is_named_by_its_file_id,
        a_document_is_named_by_its_file_id,
        a_batch_of_fifty_lines_with_three_bad_ones_runs_to_its_end,
        an_invalid_input_file_fails_the_batch,
    ],
)
