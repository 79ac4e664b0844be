// The Google Gen AI SDK for Node against the demo. Usage: CLIENT_MODULES=DIRECTORY node google_genai.mjs BASE_URL

import assert from "node:assert/strict";
import { baseURL, collect, load, model, noModel, redDot, run, weatherIn } from "./harness.mjs";

const { ApiError, FunctionCallingConfigMode, GoogleGenAI, Type } = await load("@google/genai");

const client = new GoogleGenAI({ apiKey: "anything", httpOptions: { baseUrl: baseURL.replace(/\/v1$/, "") } });
const weather = {
  functionDeclarations: [
    {
      name: "get_weather",
      description: "The weather in a city.",
      parameters: { type: Type.OBJECT, properties: { city: { type: Type.STRING } }, required: ["city"] },
    },
  ],
};
const person = {
  type: Type.OBJECT,
  properties: { name: { type: Type.STRING }, age: { type: Type.INTEGER } },
  required: ["name", "age"],
};

const ask = (contents, config) => client.models.generateContent({ model, contents, config });
const stream = async (contents, config) =>
  collect(await client.models.generateContentStream({ model, contents, config }));
const joined = (chunks) => chunks.map((chunk) => chunk.text ?? "").join("");

await run("node google-genai", {
  async "models are listed"() {
    const names = (await collect(await client.models.list())).map((listed) => listed.name);
    assert.ok(names.includes(`models/${model}`), JSON.stringify(names));
    assert.ok((await client.models.get({ model })).inputTokenLimit > 100_000);
  },

  async "a prompt streams and is the same in one piece"() {
    const chunks = await stream("Hello");
    const whole = await ask("Hello");
    assert.match(whole.text, noModel);
    assert.equal(joined(chunks), whole.text);
    assert.equal(chunks.at(-1).candidates[0].finishReason, "STOP");
    assert.ok(chunks.length > 4 && chunks.at(-1).usageMetadata.totalTokenCount > 0);
  },

  async "a chat keeps its history"() {
    const chat = client.chats.create({ model });
    assert.match(joined(await collect(await chat.sendMessageStream({ message: "Hello" }))), noModel);
    assert.match((await chat.sendMessage({ message: "And again" })).text, noModel);
    assert.equal(chat.getHistory(true).filter((content) => content.role === "user").length, 2);
  },

  async "functions are called and answered"() {
    const question = { role: "user", parts: [{ text: "What is the weather in Oslo?" }] };
    const toolConfig = { functionCallingConfig: { mode: FunctionCallingConfigMode.ANY } };
    const answer = await ask([question], { tools: [weather], toolConfig });
    const [call] = answer.functionCalls;
    assert.deepEqual([call.name, call.args], ["get_weather", { city: "Oslo" }]);
    const functionResponse = { id: call.id, name: call.name, response: { output: weatherIn("Oslo") } };
    const history = [question, answer.candidates[0].content, { role: "user", parts: [{ functionResponse }] }];
    assert.ok((await ask(history, { tools: [weather] })).text.includes(weatherIn("Oslo")));
  },

  async "answers have a schema"() {
    const config = { responseMimeType: "application/json", responseSchema: person };
    const { name, age } = JSON.parse((await ask("Ann is 31 years old.", config)).text);
    assert.ok(typeof name === "string" && Number.isInteger(age));
  },

  async "images are accepted"() {
    const inlineData = { mimeType: "image/png", data: redDot.split(",")[1] };
    assert.match((await ask([{ text: "What is this?" }, { inlineData }])).text, noModel);
  },

  async "tokens are counted"() {
    assert.ok((await client.models.countTokens({ model, contents: "Hello" })).totalTokens > 0);
  },

  async "errors and cut streams are errors of the client"() {
    const spent = (error) => error instanceof ApiError && error.status === 429 && /usage limit/.test(error.message);
    await assert.rejects(ask("demo:usage-limit"), spent);
    const cut = (error) => error instanceof ApiError && error.status === 502 && /incomplete/.test(error.message);
    await assert.rejects(stream("demo:cut"), cut);
  },
});
