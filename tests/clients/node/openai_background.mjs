// Background responses and conversations with the official Node SDK.
// Usage: CLIENT_MODULES=DIRECTORY node openai_background.mjs BASE_URL

import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import { baseURL, collect, load, model, noModel, run } from "./harness.mjs";

const { OpenAI } = await load("openai");
const client = new OpenAI({ baseURL, apiKey: "any key", maxRetries: 0 });
const create = (request) => client.responses.create({ model, background: true, ...request });

async function finished(response) {
  for (let polls = 0; ["queued", "in_progress"].includes(response.status) && polls < 1000; polls += 1) {
    await sleep(50);
    response = await client.responses.retrieve(response.id);
  }
  return response;
}

await run("node background", {
  async "a background response is polled"() {
    const created = await create({ input: "Hello" });
    assert.equal(created.status, "queued");
    const done = await finished(created);
    assert.equal(done.status, "completed");
    assert.match(done.output_text, noModel);
  },

  async "a cut stream is resumed"() {
    const seen = [];
    for await (const event of await create({ input: "Hello demo:slow", stream: true })) {
      seen.push(event);
      if (event.type === "response.output_text.delta") break;
    }
    const { id } = seen[0].response;
    const query = { stream: true, starting_after: seen.at(-1).sequence_number };
    const rest = await collect(await client.responses.retrieve(id, query));
    const numbers = [...seen, ...rest].map((event) => event.sequence_number);
    assert.deepEqual(numbers, [...numbers.keys()]);
    assert.equal(rest.at(-1).type, "response.completed");
  },

  async "a background response is cancelled"() {
    const created = await create({ input: "Hello demo:slow" });
    assert.equal((await client.responses.cancel(created.id)).status, "cancelled");
    assert.equal((await client.responses.retrieve(created.id)).status, "cancelled");
  },

  async "a conversation has two turns"() {
    const conversation = await client.conversations.create({ metadata: { topic: "demo" } });
    const turn = (input) => client.responses.create({ model, input, conversation: conversation.id });
    assert.equal((await turn("Hello")).conversation.id, conversation.id);
    assert.match((await turn("Goodbye")).output_text, /Goodbye/);
    const items = await collect(client.conversations.items.list(conversation.id, { order: "asc", limit: 3 }));
    const messages = items.filter((item) => item.type === "message");
    assert.deepEqual(messages.map((item) => item.role), ["user", "assistant", "user", "assistant"]);
    const added = await client.conversations.items.create(conversation.id, {
      items: [{ role: "user", content: "One more" }],
    });
    const { id } = added.data[0];
    const one = await client.conversations.items.retrieve(id, { conversation_id: conversation.id });
    assert.equal(one.content[0].text, "One more");
    await client.conversations.items.delete(id, { conversation_id: conversation.id });
    assert.equal((await client.conversations.delete(conversation.id)).deleted, true);
  },
});
