// The Vercel AI SDK: a task with a tool that it carries out by itself, whole and streamed.
import assert from "node:assert/strict";
import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAI } from "@ai-sdk/openai";
import { generateText, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";

const { GATEWAY, KEY, MODEL, PROTOCOL } = process.env;
const options = { baseURL: `${GATEWAY}/v1`, apiKey: KEY };
const model = {
  chat: () => createOpenAI(options).chat(MODEL),
  responses: () => createOpenAI(options).responses(MODEL),
  messages: () => createAnthropic(options)(MODEL),
}[PROTOCOL]();
const providerOptions = { openai: { store: false } };

for (const way of [generateText, streamText]) {
  const asked = [];
  const weather = tool({
    description: "The weather of a city.",
    inputSchema: z.object({ city: z.string() }),
    execute: (input) => (asked.push(input), "21 °C"),
  });
  const call = { model, tools: { weather }, stopWhen: stepCountIs(3), prompt: "What is the weather in Zürich?", maxRetries: 0 };
  const result = await way({ ...call, providerOptions, onError: ({ error }) => { throw error; } });
  assert.match(await result.text, /21 °C/);
  assert.deepEqual(asked, [{ city: "Zürich" }]);
}
