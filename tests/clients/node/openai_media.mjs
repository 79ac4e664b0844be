// Images and transcriptions with the official Node SDK. Usage: CLIENT_MODULES=DIRECTORY node openai_media.mjs BASE_URL

import assert from "node:assert/strict";
import { baseURL, collect, load, redDot, run } from "./harness.mjs";

const { OpenAI, toFile } = await load("openai");
const client = new OpenAI({ baseURL, apiKey: "any key", maxRetries: 0 });
const dot = (name) => toFile(Buffer.from(redDot.split(",")[1], "base64"), name, { type: "image/png" });
const isImage = (data) => Buffer.from(data.b64_json, "base64").subarray(1, 4).toString() === "PNG";
const audioFile = () => toFile(Buffer.from("RIFF"), "talk.wav");

async function refused(param, promise) {
  await assert.rejects(promise, (error) => {
    assert.ok(error instanceof OpenAI.BadRequestError, String(error));
    assert.equal(error.param, param);
    return true;
  });
}

await run("node media", {
  async "images are generated"() {
    const answer = await client.images.generate({ model: "gpt-image-2", prompt: "A red fox", n: 2 });
    assert.equal(answer.data.length, 2);
    assert.ok(answer.data.every(isImage));
    assert.equal(answer.usage.output_tokens, 400);
  },

  async "images are edited"() {
    const image = [await dot("a.png"), await dot("b.png")];
    const answer = await client.images.edit({ model: "gpt-image-2", image, prompt: "Both" });
    assert.ok(isImage(answer.data[0]));
    assert.equal(answer.usage.input_tokens_details.image_tokens, 200);
    await refused("mask", client.images.edit({ image: await dot("a.png"), mask: await dot("m.png"), prompt: "x" }));
  },

  async "images stream"() {
    const events = await collect(
      await client.images.generate({ model: "gpt-image-2", prompt: "A red fox", n: 2, stream: true }),
    );
    assert.deepEqual(events.map((event) => event.type), Array(2).fill("image_generation.completed"));
    assert.ok(events.every(isImage));
    const image = await dot("a.png");
    const [edited] = await collect(await client.images.edit({ image, prompt: "Bluer", stream: true }));
    assert.equal(edited.type, "image_edit.completed");
  },

  async "an audio file is transcribed"() {
    const answer = await client.audio.transcriptions.create({ model: "whisper-1", file: await audioFile() });
    assert.match(answer.text, /simulated/);
    const plain = { model: "whisper-1", file: await audioFile(), response_format: "text" };
    assert.match(await client.audio.transcriptions.create(plain), /simulated/);
  },

  async "unsupported parameters of a transcription are refused"() {
    const request = { model: "whisper-1", file: await audioFile(), response_format: "srt" };
    await refused("response_format", client.audio.transcriptions.create(request));
    const timed = { model: "whisper-1", file: await audioFile(), timestamp_granularities: ["word"] };
    await refused("timestamp_granularities", client.audio.transcriptions.create(timed));
  },
});
