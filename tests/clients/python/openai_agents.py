"""The OpenAI Agents SDK, which speaks Responses, against the demo. Usage: openai_agents.py BASE_URL"""

import os

# Disable telemetry.
os.environ["OPENAI_AGENTS_DISABLE_TRACING"] = "1"

from agents import Agent, ModelSettings, OpenAIResponsesModel, Runner, SQLiteSession, function_tool
from agents.memory import OpenAIResponsesCompactionSession
from openai import AsyncOpenAI
from pydantic import BaseModel

from harness import BASE_URL, MODEL, NO_MODEL, run, weather_in

client = AsyncOpenAI(base_url=BASE_URL, api_key="any key")
model = OpenAIResponsesModel(model=MODEL, openai_client=client)
asked = []


class Person(BaseModel):
    name: str
    age: int


@function_tool
def get_weather(city: str) -> str:
    """The weather in a city."""
    asked.append(city)
    return weather_in(city)


def agent(**settings):
    return Agent(name="Demo", instructions="Be brief.", model=model, **settings)


async def a_run_answers():
    result = await Runner.run(agent(), "Good morning")
    assert NO_MODEL in result.final_output, result
    assert result.context_wrapper.usage.total_tokens > 0, result


async def a_tool_is_run_and_the_next_turn_goes_on_by_id():
    asked.clear()
    able = agent(tools=[get_weather])
    first = await Runner.run(able, "What is the weather in Oslo?")
    assert asked == ["Oslo"] and weather_in("Oslo") in first.final_output, first
    second = await Runner.run(able, "And what is the weather in Rome?", previous_response_id=first.last_response_id)
    assert asked == ["Oslo", "Rome"] and weather_in("Rome") in second.final_output, second
    items = [item async for item in client.responses.input_items.list(second.last_response_id, limit=100)]
    said = [item.content[0].text for item in items if item.type == "message" and item.role == "user"]
    assert said == ["And what is the weather in Rome?", "What is the weather in Oslo?"], items


async def a_run_goes_on_by_id_by_itself():
    asked.clear()
    result = await Runner.run(
        agent(tools=[get_weather]), "What is the weather in Oslo and Rome?", auto_previous_response_id=True
    )
    assert asked == ["Oslo", "Rome"] and weather_in("Rome") in result.final_output, result


async def a_stream_runs_tools_too():
    asked.clear()
    result = Runner.run_streamed(agent(tools=[get_weather]), "What is the weather in Oslo?")
    kinds = [event.type async for event in result.stream_events()]
    assert "raw_response_event" in kinds and "run_item_stream_event" in kinds, kinds
    assert asked == ["Oslo"] and weather_in("Oslo") in result.final_output, result


async def an_output_has_its_type():
    result = await Runner.run(agent(output_type=Person), "Extract: Bob is 5.")
    assert result.final_output == Person(name="Bob", age=5), result


async def a_conversation_without_a_store_goes_on_in_a_session():
    session = SQLiteSession("one")
    able = agent(tools=[get_weather], model_settings=ModelSettings(store=False))
    await Runner.run(able, "What is the weather in Oslo?", session=session)
    result = await Runner.run(able, "Good night", session=session)
    assert NO_MODEL in result.final_output and len(await session.get_items()) > 4, result


async def a_session_is_compacted():
    for mode in ("previous_response_id", "input"):
        below = SQLiteSession(mode)
        session = OpenAIResponsesCompactionSession(
            mode, below, client=client, model="gpt-5.4", compaction_mode=mode, should_trigger_compaction=lambda _: False
        )
        await Runner.run(agent(), "My name is Ann.", session=session)
        await session.run_compaction({"force": True})
        kinds = [item.get("type", "message") for item in await session.get_items()]
        assert kinds == ["message", "compaction"], (mode, kinds)
        result = await Runner.run(agent(), "Hello again", session=session)
        assert "Hello again" in result.final_output, (mode, result)


run(
    "agents",
    [
        a_run_answers,
        a_tool_is_run_and_the_next_turn_goes_on_by_id,
        a_run_goes_on_by_id_by_itself,
        a_stream_runs_tools_too,
        an_output_has_its_type,
        a_conversation_without_a_store_goes_on_in_a_session,
        a_session_is_compacted,
    ],
)
