// Files and batches with the official Node SDK. Usage: CLIENT_MODULES=DIRECTORY node openai_files.mjs BASE_URL

import assert from "node:assert/strict";
import { setTimeout } from "node:timers/promises";
import { baseURL, load, redDot, run } from "./harness.mjs";

const { OpenAI, toFile } = await load("openai");
const client = new OpenAI({ baseURL, apiKey: "any key", maxRetries: 0 });
const model = (await client.models.list()).data[0].id;
const upload = async (name, content, purpose) =>
  client.files.create({ file: await toFile(Buffer.from(content), name), purpose });

async function ended(batch) {
  for (const start = Date.now(); !["completed", "failed", "cancelled"].includes(batch.status); ) {
    assert.ok(Date.now() - start < 60_000, JSON.stringify(batch));
    await setTimeout(50);
    batch = await client.batches.retrieve(batch.id);
  }
  return batch;
}

async function results(id) {
  const text = await (await client.files.content(id)).text();
  return text.trimEnd().split("\n").map((line) => JSON.parse(line));
}

await run("node files", {
  async "a file is uploaded, listed, read and deleted"() {
    const file = await upload("notes.txt", "hello", "assistants");
    assert.deepEqual(await client.files.retrieve(file.id), file);
    const listed = [];
    for await (const one of client.files.list({ purpose: "assistants" })) listed.push(one.id);
    assert.deepEqual(listed, [file.id]);
    assert.equal(await (await client.files.content(file.id)).text(), "hello");
    assert.equal((await client.files.delete(file.id)).deleted, true);
    await assert.rejects(client.files.retrieve(file.id), OpenAI.NotFoundError);
  },

  async "an image is named by its file id"() {
    const file = await upload("dot.png", Buffer.from(redDot.split(",")[1], "base64"), "vision");
    const content = [{ type: "input_image", file_id: file.id, detail: "auto" }];
    const answer = await client.responses.create({ model, input: [{ role: "user", content }] });
    assert.equal(answer.status, "completed");
  },

  async "a batch runs to its end"() {
    const lines = Array.from({ length: 50 }, (_, number) => {
      const body = number % 20 === 5 ? { model, input: 5 } : { model, input: `Question ${number}` };
      return JSON.stringify({ custom_id: `r${number}`, method: "POST", url: "/v1/responses", body });
    });
    const file = await upload("requests.jsonl", lines.join("\n"), "batch");
    const request = { input_file_id: file.id, endpoint: "/v1/responses", completion_window: "24h" };
    const batch = await ended(await client.batches.create(request));
    assert.deepEqual({ ...batch.request_counts }, { total: 50, completed: 47, failed: 3 });
    const output = await results(batch.output_file_id);
    assert.equal(new Set(output.map((line) => line.custom_id)).size, 47);
    assert.ok(output.every((line) => line.response.body.object === "response"));
    const errors = await results(batch.error_file_id);
    assert.deepEqual(errors.map((line) => line.custom_id), ["r5", "r25", "r45"]);
    assert.ok(errors.every((line) => line.response.body.error.param === "input"));
    for await (const one of client.batches.list()) assert.ok(one.id);
    await assert.rejects(client.batches.cancel(batch.id), OpenAI.BadRequestError);
  },
});
