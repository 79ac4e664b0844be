// Anthropic's official Node SDK against the demo.
// Usage: CLIENT_MODULES=DIRECTORY node anthropic_messages.mjs BASE_URL

import assert from "node:assert/strict";
import { baseURL, collect, load, model, noModel, redDot, run, weatherIn } from "./harness.mjs";

const { default: Anthropic } = await load("@anthropic-ai/sdk");
const { zodOutputFormat } = await load("@anthropic-ai/sdk/helpers/zod");
const { betaZodTool } = await load("@anthropic-ai/sdk/helpers/beta/zod");
const { z } = await load("zod");

// The SDK adds /v1 itself.
const root = baseURL.replace(/\/v1$/, "");
const client = new Anthropic({ baseURL: root, apiKey: "any key" });
const bearer = new Anthropic({ baseURL: root, apiKey: null, authToken: "another key" });
const claude = "claude-opus-4-8";
const weather = {
  name: "get_weather",
  description: "The weather in a city.",
  input_schema: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
};
const search = { type: "web_search_20250305", name: "web_search" };
const thinking = { type: "enabled", budget_tokens: 2048 };

const say = (content) => [{ role: "user", content }];
const asking = (request) => ({ model: claude, max_tokens: 1024, messages: say("Hello"), ...request });
const create = (request) => client.messages.create(asking(request));
const streamed = (request) => client.messages.stream(asking(request)).finalMessage();
const textOf = (message) => message.content.map((block) => (block.type === "text" ? block.text : "")).join("");
const callsOf = (message) => message.content.filter((block) => block.type === "tool_use");
const results = (calls) =>
  calls.map((call) => ({ type: "tool_result", tool_use_id: call.id, content: weatherIn(call.input.city) }));

async function failsWith(kind, promise) {
  const error = await promise.then(() => undefined, (error) => error);
  assert.ok(error instanceof kind, String(error));
  return error;
}

await run("node anthropic", {
  async "create answers"() {
    const message = await create({ system: [{ type: "text", text: "Be brief.", cache_control: { type: "ephemeral" } }] });
    assert.match(textOf(message), noModel);
    assert.deepEqual([message.model, message.stop_reason], [claude, "end_turn"]);
    assert.ok(message.usage.input_tokens > 0 && message.usage.output_tokens > 0);
    assert.match(message._request_id, /^req_/);
  },

  async "a bearer token is taken too"() {
    assert.match(textOf(await bearer.messages.create(asking({}))), noModel);
  },

  async "a stream equals the whole answer"() {
    const events = await collect(await create({ stream: true }));
    assert.equal(events.at(0).type, "message_start");
    assert.equal(events.at(-1).type, "message_stop");
    const deltas = events.filter((event) => event.type === "content_block_delta");
    assert.equal(deltas.map((event) => event.delta.text).join(""), textOf(await create({})));
  },

  async "the stream helper gathers text and thinking"() {
    const stream = client.messages.stream(asking({ messages: say("Think: what is 2 + 2?"), thinking }));
    const [texts, thoughts] = [[], []];
    stream.on("text", (delta) => texts.push(delta)).on("thinking", (delta) => thoughts.push(delta));
    const final = await stream.finalMessage();
    assert.equal(texts.join(""), textOf(final));
    assert.equal(thoughts.join(""), final.content[0].thinking);
    assert.match(final.content[0].signature, /^cxr1\./);
  },

  async "thinking comes back with the result of a tool"() {
    const messages = say("Think, and use the tool: what is the weather in Oslo?");
    const first = await streamed({ messages, tools: [weather], thinking });
    assert.equal(first.content[0].type, "thinking");
    messages.push({ role: "assistant", content: first.content }, { role: "user", content: results(callsOf(first)) });
    assert.match(textOf(await create({ messages, tools: [weather], thinking })), /12 degrees in Oslo/);
  },

  async "tools are called in parallel"() {
    for (const make of [create, streamed]) {
      const messages = say("Weather in Oslo and Rome?");
      const first = await make({ messages, tools: [weather] });
      assert.equal(first.stop_reason, "tool_use");
      assert.deepEqual(callsOf(first).map((call) => call.input.city), ["Oslo", "Rome"]);
      messages.push({ role: "assistant", content: first.content }, { role: "user", content: results(callsOf(first)) });
      assert.match(textOf(await make({ messages, tools: [weather] })), /12 degrees in Oslo.*12 degrees in Rome/);
    }
  },

  async "the tool runner gets through the loop"() {
    for (const stream of [false, true]) {
      const asked = [];
      const tool = betaZodTool({
        name: "get_weather",
        description: "The weather in a city.",
        inputSchema: z.object({ city: z.string() }),
        run: ({ city }) => (asked.push(city), weatherIn(city)),
      });
      const runner = client.beta.messages.toolRunner({ ...asking({ messages: say("Weather in Oslo?") }), tools: [tool], stream });
      assert.match(textOf(await runner.runUntilDone()), /12 degrees in Oslo/);
      assert.deepEqual(asked, ["Oslo"]);
    }
  },

  async "a picture is seen, in a prompt and in a result"() {
    const source = { type: "base64", media_type: "image/png", data: redDot.split(",")[1] };
    const picture = { type: "image", source };
    assert.match(textOf(await create({ messages: say([picture, { type: "text", text: "What is this?" }]) })), /I see 1 image/);
    const call = { type: "tool_use", id: "toolu_1", name: "Read", input: { path: "dot.png" } };
    const result = { type: "tool_result", tool_use_id: "toolu_1", content: [picture] };
    const messages = [...say("Read it."), { role: "assistant", content: [call] }, ...say([result])];
    assert.equal((await create({ messages })).stop_reason, "end_turn");
  },

  async "a web search is reported"() {
    const message = await streamed({ messages: say("Search the web"), tools: [search] });
    const [use, result] = message.content;
    assert.deepEqual([use.type, result.type], ["server_tool_use", "web_search_tool_result"]);
    assert.equal(result.tool_use_id, use.id);
    assert.match(result.content[0].url, /^https:/);
  },

  async "an answer is parsed with zod"() {
    const person = z.object({ name: z.string(), age: z.number() });
    const format = zodOutputFormat(person);
    const message = await client.messages.parse(asking({ messages: say("Extract: Bob is 30"), output_config: { format } }));
    assert.deepEqual(message.parsed_output, { name: "Bob", age: 30 });
  },

  async "a stop sequence ends the answer"() {
    const message = await create({ stop_sequences: ["no model"] });
    assert.deepEqual([message.stop_reason, message.stop_sequence], ["stop_sequence", "no model"]);
  },

  async "tokens are counted"() {
    const plain = await client.messages.countTokens({ model: claude, messages: say("Hello") });
    const more = await client.messages.countTokens({ model: claude, messages: say("Hello"), tools: [weather] });
    assert.ok(plain.input_tokens > 0 && more.input_tokens > plain.input_tokens);
  },

  async "models are listed and retrieved"() {
    const ids = (await collect(await client.models.list({ limit: 2 }))).map((entry) => entry.id);
    assert.ok(ids.length > 2 && ids.includes(model), String(ids));
    assert.equal((await client.models.retrieve(model)).type, "model");
  },

  async "errors have their classes"() {
    const kinds = [
      [Anthropic.BadRequestError, "invalid_request_error", () => create({ messages: [] })],
      [Anthropic.NotFoundError, "not_found_error", () => client.models.retrieve("no-such-model")],
      [Anthropic.RateLimitError, "rate_limit_error", () => create({ messages: say("demo:usage-limit") })],
      [Anthropic.InternalServerError, "overloaded_error", () => create({ messages: say("demo:overloaded"), stream: true })],
    ];
    for (const [kind, type, ask] of kinds) {
      const error = await failsWith(kind, ask());
      assert.equal(error.type, type);
      assert.match(error.requestID, /^req_/);
    }
    const long = await failsWith(Anthropic.BadRequestError, create({ messages: say("demo:context") }));
    assert.match(long.message, /prompt is too long/);
  },

  async "an answer that breaks is an error"() {
    for (const word of ["demo:cut", "demo:end", "demo:error"]) {
      const messages = say(`${word} please, and say much`);
      await failsWith(Anthropic.APIError, create({ messages, stream: true }).then(collect));
      await failsWith(Anthropic.APIError, streamed({ messages }));
    }
  },
});
