// The official OpenAI SDK for Node against the address in BASE_URL; test_real.py starts it.

import assert from "node:assert/strict";
import { test } from "node:test";
import OpenAI from "openai";

const client = new OpenAI({ baseURL: process.env.BASE_URL, apiKey: "none", maxRetries: 0, timeout: 60_000 });
const france = [{ role: "user", content: "What is the capital of France?" }];
const asked = { model: "auto", messages: france, temperature: 0, max_tokens: 16 };

test("a question is answered", async () => {
  const answer = await client.chat.completions.create(asked);
  assert.match(answer.choices[0].message.content, /Paris/);
  assert.equal(answer.choices[0].finish_reason, "stop");
});

test("a stream adds up to the same answer and brings the usage it was asked for", async () => {
  const stream = await client.chat.completions.create({
    ...asked,
    stream: true,
    stream_options: { include_usage: true },
  });
  let text = "";
  let usage;
  for await (const chunk of stream) {
    text += chunk.choices[0]?.delta?.content ?? "";
    usage = chunk.usage ?? usage;
  }
  assert.match(text, /Paris/);
  assert.equal(usage.total_tokens, usage.prompt_tokens + usage.completion_tokens);
});

test("the stream helper puts a whole completion together", async () => {
  const whole = await client.chat.completions.stream(asked).finalChatCompletion();
  assert.match(whole.choices[0].message.content, /Paris/);
});

test("two choices come numbered", async () => {
  const answer = await client.chat.completions.create({ ...asked, n: 2 });
  assert.deepEqual(answer.choices.map((choice) => choice.index).sort(), [0, 1]);
});

test("a schema is kept", async () => {
  const schema = {
    type: "object",
    properties: { city: { enum: ["Paris", "Rome"] } },
    required: ["city"],
    additionalProperties: false,
  };
  const answer = await client.chat.completions.create({
    ...asked,
    response_format: { type: "json_schema", json_schema: { name: "place", schema, strict: true } },
  });
  assert.ok(["Paris", "Rome"].includes(JSON.parse(answer.choices[0].message.content).city));
});

test("a model that nobody serves is the SDK's NotFoundError", async () => {
  await assert.rejects(client.chat.completions.create({ ...asked, model: "gpt-none" }), OpenAI.NotFoundError);
});

test("what cannot be read is the SDK's BadRequestError", async () => {
  await assert.rejects(client.chat.completions.create({ ...asked, top_p: "many" }), OpenAI.BadRequestError);
});

test("a stream may be given up", async () => {
  const stream = await client.chat.completions.create({ ...asked, max_tokens: 400, ignore_eos: true, stream: true });
  let seen = 0;
  for await (const _ of stream) {
    seen += 1;
    if (seen === 4) stream.controller.abort();
  }
  assert.ok(seen >= 4 && seen < 100);
});
