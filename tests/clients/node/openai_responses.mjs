// The official Node SDK, speaking Responses, against the demo.
// Usage: CLIENT_MODULES=DIRECTORY node openai_responses.mjs BASE_URL
// Prints `ok …` or `FAILED …` for each check; the exit code is 0 if all passed.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import path from "node:path";

const load = createRequire(path.join(path.resolve(process.env.CLIENT_MODULES), "package.json"));
const { OpenAI } = load("openai");
const { zodTextFormat } = load("openai/helpers/zod");
const { z } = load("zod");

const client = new OpenAI({ baseURL: process.argv[2], apiKey: "any key" });
const noModel = /no model wrote this/;
const weather = {
  type: "function",
  name: "get_weather",
  description: "The weather in a city.",
  parameters: {
    type: "object",
    properties: { city: { type: "string" } },
    required: ["city"],
    additionalProperties: false,
  },
  strict: true,
};
const model = (await client.models.list()).data[0].id;
const create = (request) => client.responses.create({ model, ...request });

const checks = {
  async "a text is answered"() {
    const response = await create({ input: "Hello", metadata: { k: "v" } });
    assert.match(response.output_text, noModel);
    assert.equal(response.model, model);
    assert.deepEqual(response.metadata, { k: "v" });
  },

  async "a stream equals the whole answer"() {
    const events = [];
    for await (const event of await create({ input: "Hello", stream: true })) events.push(event);
    assert.deepEqual(events.map((event) => event.sequence_number), [...events.keys()]);
    const deltas = events.filter((event) => event.type === "response.output_text.delta");
    const whole = await create({ input: "Hello" });
    assert.equal(deltas.map((event) => event.delta).join(""), whole.output_text);
  },

  async "the stream helper follows"() {
    const stream = client.responses.stream({ model, input: "Hello" });
    let snapshot = "";
    stream.on("response.output_text.delta", (event) => (snapshot = event.snapshot));
    const final = await stream.finalResponse();
    assert.equal(final.output_text, snapshot);
    assert.match(snapshot, noModel);
  },

  async "a tool is called and its output used"() {
    const input = [{ role: "user", content: "Use the tool: what is the weather in Oslo?" }];
    const first = await create({ input, tools: [weather] });
    const call = first.output.find((item) => item.type === "function_call");
    assert.equal(JSON.parse(call.arguments).city, "Oslo");
    const output = { type: "function_call_output", call_id: call.call_id, output: "12 degrees in Oslo" };
    const second = await create({ input: [...input, ...first.output, output], tools: [weather] });
    assert.match(second.output_text, /12 degrees in Oslo/);
  },

  async "a conversation continues by id"() {
    const input = "Use the tool: what is the weather in Oslo?";
    const first = await create({ input, tools: [weather] });
    const call = first.output.find((item) => item.type === "function_call");
    const output = { type: "function_call_output", call_id: call.call_id, output: "12 degrees in Oslo" };
    const second = await create({ input: [output], previous_response_id: first.id, tools: [weather] });
    assert.match(second.output_text, /12 degrees in Oslo/);
  },

  async "a stored answer is looked at and forgotten"() {
    const created = await create({ input: "Hello" });
    assert.equal((await client.responses.retrieve(created.id)).id, created.id);
    const items = [];
    for await (const item of client.responses.inputItems.list(created.id)) items.push(item);
    assert.equal(items[0].content[0].text, "Hello");
    await client.responses.delete(created.id);
    await assert.rejects(client.responses.retrieve(created.id), OpenAI.NotFoundError);
  },

  async "an answer is parsed by a schema"() {
    const person = z.object({ name: z.string(), age: z.number() });
    const format = zodTextFormat(person, "person");
    const response = await client.responses.parse({ model, input: "Extract: Bob is 30", text: { format } });
    assert.deepEqual(response.output_parsed, { name: "Bob", age: 30 });
  },

  async "a conversation is compacted and continues"() {
    const first = await create({ input: "My name is Ann." });
    for (const request of [{ input: "My name is Ann." }, { previous_response_id: first.id }]) {
      const compacted = await client.responses.compact({ model, ...request });
      assert.equal(compacted.object, "response.compaction");
      assert.deepEqual(compacted.output.map((item) => item.type), ["message", "compaction"]);
      const second = await create({ input: [...compacted.output, { role: "user", content: "Good night" }] });
      assert.match(second.output_text, /Good night/);
    }
  },

  async "the input is counted"() {
    const count = async (input) => (await client.responses.inputTokens.count({ model, input })).input_tokens;
    const more = (await count("hello world ".repeat(100))) - (await count("hello world"));
    assert.ok(more > 150 && more < 250, `${more}`);
  },

  async "a call streams its arguments"() {
    const stream = client.responses.stream({ model, input: "Use the tool: the weather in Oslo?", tools: [weather] });
    let reported = "";
    stream.on("response.function_call_arguments.delta", (event) => (reported = event.snapshot));
    const call = (await stream.finalResponse()).output.find((item) => item.type === "function_call");
    assert.equal(reported, call.arguments);
  },

  async "a bad request names the parameter"() {
    await assert.rejects(create({ input: "Hello", prompt: { id: "pmpt_1" } }), (error) => {
      assert.ok(error instanceof OpenAI.BadRequestError, String(error));
      assert.equal(error.param, "prompt");
      return true;
    });
  },
};

let failures = 0;
for (const [name, check] of Object.entries(checks)) {
  try {
    await check();
    console.log(`ok node responses ${name}`);
  } catch (error) {
    failures += 1;
    console.log(`FAILED node responses ${name}: ${String(error?.message ?? error).replaceAll("\n", " ")}`);
    console.error(error);
  }
}
process.exit(failures === 0 ? 0 : 1);
