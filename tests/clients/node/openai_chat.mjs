// The official Node SDK against the demo. Usage: CLIENT_MODULES=DIRECTORY node openai_chat.mjs BASE_URL

import assert from "node:assert/strict";
import { baseURL, collect, load, model, noModel, redDot, run, weatherIn } from "./harness.mjs";

const { OpenAI } = await load("openai");
const { zodFunction, zodResponseFormat } = await load("openai/helpers/zod");
const { z } = await load("zod");

const client = new OpenAI({ baseURL, apiKey: "any key" });
const person = z.object({ name: z.string(), age: z.number().int(), tags: z.array(z.string()) });
const weather = {
  type: "function",
  function: {
    name: "get_weather",
    description: "The weather in a city.",
    parameters: {
      type: "object",
      properties: { city: { type: "string" } },
      required: ["city"],
      additionalProperties: false,
    },
  },
};

const say = (content) => [{ role: "user", content }];
const create = (request) => client.chat.completions.create({ model, ...request });
const city = (call) => JSON.parse(call.function.arguments).city;
const runTools = (calls) =>
  calls.map((call) => ({ role: "tool", tool_call_id: call.id, content: weatherIn(city(call)) }));

async function failsWith(kind, promise) {
  let reported;
  await assert.rejects(promise, (error) => {
    assert.ok(error instanceof kind, `${error?.constructor?.name}: ${error?.message}`);
    reported = error;
    return true;
  });
  return reported;
}

async function refused(param, request) {
  const error = await failsWith(OpenAI.BadRequestError, create({ messages: say("Hello"), ...request }));
  assert.equal(error.param, param);
  assert.equal(error.type, "invalid_request_error");
  assert.ok(error.requestID, "an id to ask about");
}

// The weather tool of the runner, which records its arguments.
function noting(asked) {
  return zodFunction({
    name: "get_weather",
    description: "The weather in a city.",
    parameters: z.object({ city: z.string() }),
    function: (input) => {
      asked.push(input.city);
      return weatherIn(input.city);
    },
  });
}

await run("node", {
  async "models are listed and retrieved"() {
    const models = await collect(await client.models.list());
    assert.ok(models.length > 0);
    assert.equal((await client.models.retrieve(models[0].id)).id, models[0].id);
    await failsWith(OpenAI.NotFoundError, client.models.retrieve("no-such-model"));
  },

  async "create answers"() {
    const answer = await create({ messages: say("Good morning") });
    assert.match(answer.choices[0].message.content, noModel);
    assert.equal(answer.choices[0].finish_reason, "stop");
    assert.ok(answer.usage.total_tokens > 0);
  },

  async "headers are there"() {
    const request = { model, messages: say("Hello"), temperature: 0.2 };
    const { response, request_id } = await client.chat.completions.create(request).withResponse();
    assert.equal(response.headers.get("x-proxy-demo"), "true");
    assert.equal(response.headers.get("x-proxy-warnings"), "ignored:temperature");
    assert.ok(request_id);
  },

  async "stream answers"() {
    const messages = say("Good morning");
    const chunks = await collect(await create({ messages, stream: true, stream_options: { include_usage: true } }));
    const texts = chunks.map((chunk) => chunk.choices[0]?.delta.content).filter(Boolean);
    assert.ok(texts.length > 3, "the text comes in pieces");
    assert.match(texts.join(""), noModel);
    assert.ok(chunks.at(-1).usage.total_tokens > 0);
    assert.deepEqual(chunks.at(-1).choices, []);
  },

  async "the stream helper gathers text"() {
    const stream = client.chat.completions.stream({ model, messages: say("Good morning") });
    let text = "";
    stream.on("content", (piece) => (text += piece));
    assert.equal((await stream.finalChatCompletion()).choices[0].message.content, text);
    assert.match(text, noModel);
  },

  async "a stream that is left ends"() {
    const stream = await create({ messages: say("demo:slow"), stream: true });
    for await (const chunk of stream) {
      if (chunk.choices[0]?.delta.content) break;
    }
    assert.ok(stream.controller.signal.aborted);
  },

  async "a tool is called and its output used"() {
    const messages = say("What is the weather in Oslo?");
    const first = (await create({ messages, tools: [weather] })).choices[0];
    assert.equal(first.finish_reason, "tool_calls");
    assert.deepEqual(first.message.tool_calls.map(city), ["Oslo"]);
    messages.push(first.message, ...runTools(first.message.tool_calls));
    const second = (await create({ messages, tools: [weather] })).choices[0];
    assert.match(second.message.content, /12 degrees in Oslo/);
  },

  async "tools are called in parallel"() {
    const messages = say("What is the weather in Oslo and Rome?");
    const first = (await create({ messages, tools: [weather] })).choices[0];
    assert.deepEqual(first.message.tool_calls.map(city), ["Oslo", "Rome"]);
    messages.push(first.message, ...runTools(first.message.tool_calls));
    const second = (await create({ messages, tools: [weather] })).choices[0];
    assert.match(second.message.content, /12 degrees in Oslo.*12 degrees in Rome/);
  },

  async "runTools gets through the loop"() {
    for (const stream of [false, true]) {
      const asked = [];
      const runner = client.chat.completions.runTools({
        model,
        stream,
        messages: say("Weather in Oslo and Rome?"),
        tools: [noting(asked)],
      });
      assert.match(await runner.finalContent(), /12 degrees in Oslo.*12 degrees in Rome/);
      assert.deepEqual(asked, ["Oslo", "Rome"]);
    }
  },

  async "a picture is seen"() {
    const content = [
      { type: "text", text: "What is this?" },
      { type: "image_url", image_url: { url: redDot } },
    ];
    const answer = await create({ messages: [{ role: "user", content }] });
    assert.match(answer.choices[0].message.content, /I see 1 image/);
  },

  async "an answer is parsed with zod"() {
    const request = { model, messages: say("Extract: Bob is 5."), response_format: zodResponseFormat(person, "person") };
    const answer = await client.chat.completions.parse(request);
    const { name, age } = answer.choices[0].message.parsed;
    assert.deepEqual([name, age], ["Bob", 5]);
    const streamed = await client.chat.completions.stream(request).finalChatCompletion();
    assert.deepEqual(streamed.choices[0].message.parsed, answer.choices[0].message.parsed);
  },

  async "bad requests name the parameter"() {
    await refused("n", { n: 2 });
    await refused("messages", { messages: [] });
    await refused("messages[0].role", { messages: [{ role: "wizard", content: "Hello" }] });
    await refused("reasoning_effort", { reasoning_effort: "huge" });
  },

  async "errors have their classes"() {
    const quota = await failsWith(OpenAI.RateLimitError, create({ messages: say("demo:usage-limit") }));
    assert.equal(quota.code, "usage_limit_reached");
    const context = await failsWith(OpenAI.BadRequestError, create({ messages: say("demo:context") }));
    assert.equal(context.code, "context_length_exceeded");
    await failsWith(OpenAI.InternalServerError, create({ messages: say("demo:overloaded") }));
  },

  async "an answer that breaks is an error"() {
    for (const word of ["demo:cut", "demo:end", "demo:error"]) {
      const messages = say(`${word} please, and say much`);
      await failsWith(OpenAI.APIError, create({ messages, stream: true }).then(collect));
    }
  },
});
