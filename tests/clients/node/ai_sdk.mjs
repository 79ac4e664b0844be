// The AI SDK of Vercel against the demo, through its OpenAI provider and its provider for compatible
// services. Usage: CLIENT_MODULES=DIRECTORY node ai_sdk.mjs BASE_URL

import assert from "node:assert/strict";
import { baseURL, collect, load, model, noModel, redDot, run, weatherIn } from "./harness.mjs";

const { APICallError, Output, generateObject, generateText, stepCountIs, streamObject, streamText, tool } =
  await load("ai");
const { createOpenAI } = await load("@ai-sdk/openai");
const { createOpenAICompatible } = await load("@ai-sdk/openai-compatible");
const { z } = await load("zod");

globalThis.AI_SDK_LOG_WARNINGS = false;
const apiKey = "any key";
const compatible = createOpenAICompatible({
  name: "codex-proxy",
  baseURL,
  apiKey,
  includeUsage: true,
  supportsStructuredOutputs: true,
});
const person = z.object({ name: z.string(), age: z.number().int() });
const bob = { name: "Bob", age: 5 };
const extract = "Extract: Bob is 5.";

// The weather tool, which records its arguments.
function weather(asked) {
  return {
    get_weather: tool({
      description: "The weather in a city.",
      inputSchema: z.object({ city: z.string() }),
      execute: ({ city }) => {
        asked.push(city);
        return weatherIn(city);
      },
    }),
  };
}

function checks(chat) {
  const ask = { model: chat, maxRetries: 0 };
  return {
    async "generateText answers"() {
      const { text, finishReason, usage } = await generateText({ ...ask, prompt: "Good morning", temperature: 0 });
      assert.match(text, noModel);
      assert.equal(finishReason, "stop");
      assert.ok(usage.inputTokens > 0 && usage.outputTokens > 0);
    },

    async "streamText answers"() {
      const result = streamText({ ...ask, prompt: "Good morning" });
      const pieces = await collect(result.textStream);
      assert.ok(pieces.length > 3, "the text comes in pieces");
      assert.match(pieces.join(""), noModel);
      assert.equal(await result.finishReason, "stop");
      assert.ok((await result.usage).totalTokens > 0);
    },

    async "tools are run over several steps"() {
      const asked = [];
      const { text, steps } = await generateText({
        ...ask,
        prompt: "What is the weather in Oslo and Rome?",
        tools: weather(asked),
        stopWhen: stepCountIs(4),
      });
      assert.deepEqual(asked, ["Oslo", "Rome"]);
      assert.equal(steps.length, 2);
      assert.equal(steps[0].finishReason, "tool-calls");
      assert.match(text, /12 degrees in Oslo.*12 degrees in Rome/);
    },

    async "streamed tools are run over several steps"() {
      const asked = [];
      const result = streamText({
        ...ask,
        prompt: "What is the weather in Oslo and Rome?",
        tools: weather(asked),
        stopWhen: stepCountIs(4),
      });
      assert.match((await collect(result.textStream)).join(""), /12 degrees in Oslo.*12 degrees in Rome/);
      assert.deepEqual(asked, ["Oslo", "Rome"]);
    },

    async "a tool can be demanded and forbidden"() {
      const demanded = await generateText({ ...ask, prompt: "Hello", tools: weather([]), toolChoice: "required" });
      assert.equal(demanded.toolCalls[0].toolName, "get_weather");
      const forbidden = await generateText({ ...ask, prompt: "Weather in Oslo?", tools: weather([]), toolChoice: "none" });
      assert.deepEqual(forbidden.toolCalls, []);
    },

    async "generateObject fills a schema"() {
      const { object } = await generateObject({ ...ask, prompt: extract, schema: person });
      assert.deepEqual(object, bob);
    },

    async "streamObject fills a schema"() {
      const result = streamObject({ ...ask, prompt: extract, schema: person });
      const pieces = await collect(result.partialObjectStream);
      assert.deepEqual(pieces.at(-1), bob);
      assert.deepEqual(await result.object, bob);
    },

    async "an output has its type"() {
      const { output } = await generateText({ ...ask, prompt: extract, output: Output.object({ schema: person }) });
      assert.deepEqual(output, bob);
    },

    async "a picture is seen"() {
      const content = [
        { type: "text", text: "What is this?" },
        { type: "image", image: redDot },
      ];
      const { text } = await generateText({ ...ask, messages: [{ role: "user", content }] });
      assert.match(text, /I see 1 image/);
    },

    async "an exhausted quota is an error"() {
      await assert.rejects(generateText({ ...ask, prompt: "demo:usage-limit" }), (error) => {
        assert.ok(APICallError.isInstance(error), String(error));
        assert.equal(error.statusCode, 429);
        assert.match(error.message, /limit/);
        return true;
      });
    },

    async "an answer that breaks is an error"() {
      const errors = [];
      const result = streamText({ ...ask, prompt: "demo:error please", onError: ({ error }) => errors.push(error) });
      await result.consumeStream();
      assert.equal(errors.length, 1);
    },
  };
}

// The request of the SDK, and the response.
function recorded() {
  const sent = [];
  const fetch = (url, options) => {
    sent.push(JSON.parse(options.body));
    return globalThis.fetch(url, options);
  };
  return { sent, openai: createOpenAI({ baseURL, apiKey, fetch }) };
}

function named(provider, suite) {
  return Object.entries(suite).map(([name, check]) => [`${provider}: ${name}`, check]);
}

await run("ai sdk", {
  ...Object.fromEntries(named("openai", checks(createOpenAI({ baseURL, apiKey }).chat(model)))),
  ...Object.fromEntries(named("responses", checks(createOpenAI({ baseURL, apiKey })(model)))),
  ...Object.fromEntries(named("compatible", checks(compatible(model)))),

  async "responses: a conversation refers to what was stored"() {
    const { sent, openai } = recorded();
    const asked = [];
    const ask = { model: openai.responses(model), tools: weather(asked), stopWhen: stepCountIs(4), maxRetries: 0 };
    const messages = [{ role: "user", content: "What is the weather in Oslo?" }];
    const first = await generateText({ ...ask, messages });
    messages.push(...first.response.messages, { role: "user", content: "And what is the weather in Rome?" });
    const second = await generateText({ ...ask, messages });
    assert.match(second.text, /12 degrees in Rome/);
    assert.deepEqual(asked, ["Oslo", "Rome"]);
    const referred = sent.map(({ input }) => input.filter((item) => item.type === "item_reference").length);
    assert.ok(referred.at(-1) > referred[0], `references: ${referred}`);
  },

  async "responses: a conversation that is not stored carries itself"() {
    const { sent, openai } = recorded();
    const providerOptions = { openai: { store: false, include: ["reasoning.encrypted_content"] } };
    const ask = { model: openai.responses(model), tools: weather([]), stopWhen: stepCountIs(4), providerOptions };
    const { text } = await generateText({ ...ask, prompt: "What is the weather in Oslo?" });
    assert.match(text, /12 degrees in Oslo/);
    assert.ok(sent.every(({ store, input }) => store === false && input.every((item) => item.type !== "item_reference")));
  },

  async "responses: a conversation continues by id"() {
    const { openai } = recorded();
    const first = await generateText({ model: openai(model), prompt: "My name is Ann." });
    const previousResponseId = first.providerMetadata.openai.responseId;
    const providerOptions = { openai: { previousResponseId } };
    const second = await generateText({ model: openai(model), prompt: "Good night", providerOptions });
    assert.match(second.text, /Good night/);
  },

  async "compatible: thinking is shown"() {
    const options = { "codex-proxy": { reasoningEffort: "high" } };
    const result = await generateText({ model: compatible(model), prompt: "Hello", providerOptions: options });
    assert.match(result.reasoningText, /reasoning is simulated/);
  },
});
