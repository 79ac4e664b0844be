// The official Node SDK against the demo. Usage: CLIENT_MODULES=DIRECTORY node openai_chat.mjs BASE_URL
// Prints `ok …` or `FAILED …` for each check; the exit code says whether all passed.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import path from "node:path";

const load = createRequire(path.join(path.resolve(process.env.CLIENT_MODULES), "package.json"));
const { OpenAI } = load("openai");
const { zodResponseFormat } = load("openai/helpers/zod");
const { z } = load("zod");

const client = new OpenAI({ baseURL: process.argv[2], apiKey: "any key" });
const noModel = /no model wrote this/;
const redDot =
  "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC";
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

let model = "";
const say = (content) => [{ role: "user", content }];
const create = (request) => client.chat.completions.create({ model, ...request });
const city = (call) => JSON.parse(call.function.arguments).city;
const runTools = (calls) =>
  calls.map((call) => ({ role: "tool", tool_call_id: call.id, content: `12 degrees in ${city(call)}` }));

async function collect(stream) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return chunks;
}

async function refused(param, request) {
  await assert.rejects(create({ messages: say("Hello"), ...request }), (error) => {
    assert.ok(error instanceof OpenAI.BadRequestError, String(error));
    assert.equal(error.param, param);
    assert.equal(error.type, "invalid_request_error");
    assert.ok(error.requestID, "an id to ask about");
    return true;
  });
}

const checks = {
  async "models are listed and retrieved"() {
    const models = await collect(await client.models.list());
    assert.ok(models.length > 0);
    assert.equal((await client.models.retrieve(models[0].id)).id, models[0].id);
    await assert.rejects(client.models.retrieve("no-such-model"), OpenAI.NotFoundError);
  },

  async create() {
    const answer = await create({ messages: say("Good morning") });
    assert.match(answer.choices[0].message.content, noModel);
    assert.equal(answer.choices[0].finish_reason, "stop");
    assert.ok(answer.usage.total_tokens > 0);
  },

  async "the answer is marked as a demo"() {
    const { response } = await client.chat.completions.create({ model, messages: say("Hello") }).withResponse();
    assert.equal(response.headers.get("x-proxy-demo"), "true");
  },

  async stream() {
    const messages = say("Good morning");
    const chunks = await collect(await create({ messages, stream: true, stream_options: { include_usage: true } }));
    const texts = chunks.map((chunk) => chunk.choices[0]?.delta.content).filter(Boolean);
    assert.ok(texts.length > 3, "the text comes in pieces");
    assert.match(texts.join(""), noModel);
    assert.ok(chunks.at(-1).usage.total_tokens > 0);
    assert.deepEqual(chunks.at(-1).choices, []);
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

  async "the tool runner gets through the loop"() {
    const asked = [];
    const lookUp = (input) => {
      asked.push(input.city);
      return `12 degrees in ${input.city}`;
    };
    const tool = { type: "function", function: { ...weather.function, function: lookUp, parse: JSON.parse } };
    const runner = client.chat.completions.runTools({
      model,
      stream: true,
      messages: say("Weather in Oslo and Rome?"),
      tools: [tool],
    });
    assert.match(await runner.finalContent(), /12 degrees in Oslo.*12 degrees in Rome/);
    assert.deepEqual(asked, ["Oslo", "Rome"]);
  },

  async "a picture is seen"() {
    const content = [
      { type: "text", text: "What is this?" },
      { type: "image_url", image_url: { url: redDot } },
    ];
    const answer = await create({ messages: [{ role: "user", content }] });
    assert.match(answer.choices[0].message.content, /I see 1 image/);
  },

  async "an answer is parsed into a type"() {
    const person = z.object({ name: z.string(), age: z.number().int(), tags: z.array(z.string()) });
    const answer = await client.chat.completions.parse({
      model,
      messages: say("Extract: Bob is 5."),
      response_format: zodResponseFormat(person, "person"),
    });
    const { name, age } = answer.choices[0].message.parsed;
    assert.deepEqual([name, age], ["Bob", 5]);
  },

  async "bad requests name the parameter"() {
    await refused("n", { n: 2 });
    await refused("messages", { messages: [] });
    await refused("messages[0].role", { messages: [{ role: "wizard", content: "Hello" }] });
    await refused("reasoning_effort", { reasoning_effort: "huge" });
  },

  async "an exhausted quota is told once"() {
    await assert.rejects(create({ messages: say("demo:usage-limit") }), (error) => {
      assert.ok(error instanceof OpenAI.RateLimitError, String(error));
      assert.equal(error.code, "usage_limit_reached");
      return true;
    });
  },

  async "a cut answer is an error"() {
    const cut = create({ messages: say("demo:cut please, and say much"), stream: true }).then(collect);
    await assert.rejects(cut);
  },
};

model = (await client.models.list()).data[0].id;
let failures = 0;
for (const [name, check] of Object.entries(checks)) {
  try {
    await check();
    console.log(`ok node ${name}`);
  } catch (error) {
    failures += 1;
    console.log(`FAILED node ${name}: ${String(error.message ?? error).replaceAll("\n", " ")}`);
    console.error(error);
  }
}
process.exit(failures === 0 ? 0 : 1);
