// Ollama's own Node client against the demo. Usage: CLIENT_MODULES=DIRECTORY node ollama_api.mjs BASE_URL

import assert from "node:assert/strict";
import { baseURL, collect, load, model, noModel, redDot, run, weatherIn } from "./harness.mjs";

const { Ollama } = await load("ollama");

const client = new Ollama({ host: baseURL.replace(/\/v1$/, "") });
const weather = {
  type: "function",
  function: {
    name: "get_weather",
    description: "The weather in a city.",
    parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
  },
};
const person = {
  type: "object",
  properties: { name: { type: "string" }, age: { type: "integer" } },
  required: ["name", "age"],
};

const say = (content) => [{ role: "user", content }];
const chat = (request) => client.chat({ model, messages: say("Hello"), ...request });
const joined = (parts, member) => parts.map((part) => part.message[member] ?? "").join("");

await run("node ollama", {
  async "models are listed and shown"() {
    const { models } = await client.list();
    assert.ok(models.some((listed) => listed.name === model), JSON.stringify(models));
    const shown = await client.show({ model: `${model}:latest` });
    const architecture = shown.model_info["general.architecture"];
    assert.ok(shown.model_info[`${architecture}.context_length`] > 100_000);
    assert.ok(shown.capabilities.includes("tools"), JSON.stringify(shown.capabilities));
    assert.match((await client.version()).version, /^\d+\.\d+\.\d+$/);
    assert.deepEqual((await client.ps()).models, []);
  },

  async "a conversation streams and is the same in one piece"() {
    const parts = await collect(await chat({ stream: true }));
    const whole = await chat({});
    assert.match(whole.message.content, noModel);
    assert.equal(joined(parts, "content"), whole.message.content);
    assert.deepEqual([parts.at(-1).done, parts.at(-1).done_reason], [true, "stop"]);
    assert.ok(parts.at(-1).eval_count > 0 && parts.at(-1).total_duration > 0);
  },

  async "thinking is shown unless it is off"() {
    const parts = await collect(await chat({ stream: true, think: "high" }));
    assert.match(joined(parts, "thinking"), /reasoning is simulated/);
    assert.equal((await chat({ think: false })).message.thinking, undefined);
  },

  async "tools are called and answered"() {
    const messages = say("What is the weather in Oslo?");
    const parts = await collect(await chat({ messages, tools: [weather], stream: true }));
    const calls = parts.flatMap((part) => part.message.tool_calls ?? []);
    assert.deepEqual(calls.map((call) => call.function.arguments), [{ city: "Oslo" }]);
    const result = { role: "tool", tool_name: "get_weather", content: weatherIn("Oslo") };
    const said = { role: "assistant", content: "", tool_calls: calls };
    const after = await chat({ messages: [...messages, said, result], tools: [weather] });
    assert.ok(after.message.content.includes(weatherIn("Oslo")), after.message.content);
  },

  async "answers have a format"() {
    const answer = await chat({ messages: say("Ann is 31 years old."), format: person });
    const { name, age } = JSON.parse(answer.message.content);
    assert.ok(typeof name === "string" && Number.isInteger(age), answer.message.content);
  },

  async "pictures are looked at and prompts answered"() {
    const seen = await client.generate({ model, prompt: "What is this?", images: [redDot.split(",")[1]] });
    assert.match(seen.response, noModel);
    assert.equal((await client.generate({ model, prompt: "" })).done_reason, "load");
  },

  async "errors are those of the client"() {
    await assert.rejects(client.embed({ model, input: "Hello" }), /embeddings/);
    await assert.rejects(client.pull({ model: "llama3" }), /api\/tags/);
    await assert.rejects(client.show({ model: "llama3" }), (error) => error.status_code === 404);
    const cut = async () => collect(await chat({ messages: say("demo:cut"), stream: true }));
    await assert.rejects(cut(), /incomplete/);
  },
});
