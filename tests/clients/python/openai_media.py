"""Images and transcriptions with the official Python SDK. Usage: openai_media.py BASE_URL"""

import base64

import openai

from harness import BASE_URL, fails_with, red_dot, run

client = openai.OpenAI(base_url=BASE_URL, api_key="any key", max_retries=0)
PNG = b"\x89PNG\r\n\x1a\n"
DOT = base64.b64decode(red_dot().split(",")[1])


def is_image(data):
    return base64.b64decode(data.b64_json).startswith(PNG)


def an_image_is_generated():
    answer = client.images.generate(model="gpt-image-2", prompt="A red fox", size="1024x1024")
    assert len(answer.data) == 1 and is_image(answer.data[0]), answer
    assert answer.output_format == "png" and answer.size == "64x64", answer
    assert answer.usage.total_tokens == answer.usage.input_tokens + answer.usage.output_tokens > 0, answer


def several_images_are_generated():
    answer = client.images.generate(model="gpt-image-1", prompt="A red fox", n=3)
    assert len(answer.data) == 3 and all(map(is_image, answer.data)), answer
    assert answer.usage.output_tokens == 600, answer.usage


def warnings_are_in_a_header():
    raw = client.images.with_raw_response.generate(model="dall-e-3", prompt="A fox", response_format="url", style="vivid")
    warnings = set(raw.headers["x-proxy-warnings"].split(", "))
    assert warnings == {"clamped:model", "clamped:response_format", "ignored:style"}, warnings
    assert is_image(raw.parse().data[0])


def images_are_edited():
    one = client.images.edit(model="gpt-image-2", image=("dot.png", DOT), prompt="Bluer")
    two = client.images.edit(model="gpt-image-2", image=[("a.png", DOT), ("b.png", DOT)], prompt="Both", n=2)
    assert len(one.data) == 1 and is_image(one.data[0]), one
    assert len(two.data) == 2 and all(map(is_image, two.data)), two
    assert one.usage.input_tokens_details.image_tokens == 100, one.usage
    assert two.usage.input_tokens_details.image_tokens == 400, two.usage


def images_stream():
    generated = list(client.images.generate(model="gpt-image-2", prompt="A fox", n=2, stream=True, partial_images=0))
    assert [event.type for event in generated] == ["image_generation.completed"] * 2, generated
    edited = list(client.images.edit(model="gpt-image-2", image=("dot.png", DOT), prompt="Bluer", stream=True))
    assert [event.type for event in edited] == ["image_edit.completed"], edited
    for event in generated + edited:
        assert is_image(event) and event.usage.total_tokens > 0 and event.created_at > 0, event
        assert (event.background, event.output_format, event.size) == ("opaque", "png", "64x64"), event


def failures_are_the_sdk_s_errors():
    def generate(prompt="A fox", **request):
        return lambda: client.images.generate(model="gpt-image-2", prompt=prompt, **request)

    blocked = fails_with(openai.BadRequestError, generate("demo:moderation"))
    assert blocked.code == "moderation_blocked", blocked
    assert fails_with(openai.PermissionDeniedError, generate("demo:not-in-plan")).code == "not_in_plan"
    assert fails_with(openai.RateLimitError, generate("demo:rate-limit")).code == "rate_limit_exceeded"
    assert fails_with(openai.BadRequestError, generate(n=5)).param == "n"
    mask = {"image": ("dot.png", DOT), "mask": ("mask.png", DOT), "prompt": "Bluer"}
    assert fails_with(openai.BadRequestError, lambda: client.images.edit(**mask)).param == "mask"


def a_deployment_names_the_model():
    root = BASE_URL.removesuffix("/v1")
    azure = openai.AzureOpenAI(azure_endpoint=root, api_key="any key", api_version="2025-04-01-preview", max_retries=0)
    assert is_image(azure.images.generate(model="dall-e-3", prompt="A fox").data[0])


def an_audio_file_is_transcribed():
    audio_file = ("talk.wav", b"RIFF\x00\x00\x00\x00WAVE")
    answer = client.audio.transcriptions.create(model="whisper-1", file=audio_file, language="en")
    assert "simulated" in answer.text, answer
    text = client.audio.transcriptions.create(model="gpt-4o-transcribe", file=audio_file, response_format="text")
    assert "simulated" in text and text.endswith("\n"), text


def unsupported_parameters_of_a_transcription_are_refused():
    audio_file = ("talk.wav", b"RIFF")
    for param, request in [
        ("response_format", {"response_format": "verbose_json"}),
        ("timestamp_granularities", {"timestamp_granularities": ["word"]}),
        ("include", {"include": ["logprobs"]}),
        ("stream", {"stream": True}),
        ("file", {"file": ("notes.txt", b"text")}),
    ]:
        call = {"model": "whisper-1", "file": audio_file, **request}
        error = fails_with(openai.BadRequestError, lambda: client.audio.transcriptions.create(**call))
        assert error.param == param, f"{param}: {error.param}: {error}"


run(
    "python media",
    [
        an_image_is_generated,
        several_images_are_generated,
        warnings_are_in_a_header,
        images_are_edited,
        images_stream,
        failures_are_the_sdk_s_errors,
        a_deployment_names_the_model,
        an_audio_file_is_transcribed,
        unsupported_parameters_of_a_transcription_are_refused,
    ],
)
