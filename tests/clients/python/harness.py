"""Shared parts of the Python checks: running and reporting checks, and common texts.

A script is called with the base URL. It prints `ok …` or `FAILED …` for each check, and its exit
code is 0 if all passed.
"""

import asyncio
import base64
import inspect
import json
import struct
import sys
import traceback
import urllib.request
import zlib

BASE_URL = sys.argv[1]
NO_MODEL = "no model wrote this"
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}


def first_model():
    with urllib.request.urlopen(f"{BASE_URL}/models", timeout=30) as answer:
        return json.load(answer)["data"][0]["id"]


MODEL = first_model()


def say(text):
    return [{"role": "user", "content": text}]


def weather_in(city):
    return f"12 degrees in {city}"


def run_tools(calls):
    """Returns the output of each call."""
    return [
        {
            "role": "tool",
            "tool_call_id": call.id,
            "content": weather_in(json.loads(call.function.arguments)["city"]),
        }
        for call in calls
    ]


def cities(calls):
    return [json.loads(call.function.arguments)["city"] for call in calls]


def red_dot():
    """A picture of one pixel, as a data URL."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(b"\x00\xff\x00\x00"))
    picture = b"\x89PNG\r\n\x1a\n" + header + pixels + chunk(b"IEND", b"")
    return "data:image/png;base64," + base64.b64encode(picture).decode()


def fails_with(kind, call):
    """The error of that class that the call raises."""
    try:
        call()
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__}")


def run(client, checks):
    """Runs the checks and ends the program; the asynchronous ones share one event loop."""
    loop = asyncio.new_event_loop()
    failures = 0
    for check in checks:
        name = check.__name__.replace("_", " ")
        try:
            outcome = check()
            if inspect.isawaitable(outcome):
                loop.run_until_complete(outcome)
            print(f"ok {client} {name}", flush=True)
        except Exception as error:
            failures += 1
            said = " ".join(str(error).split())
            print(f"FAILED {client} {name}: {type(error).__name__}: {said}", flush=True)
            traceback.print_exc()
    sys.exit(1 if failures else 0)
