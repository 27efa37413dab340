// The official Anthropic SDK for Node: a task with a tool, streamed.
import assert from "node:assert/strict";
import Anthropic from "@anthropic-ai/sdk";

const { GATEWAY, KEY, MODEL: model } = process.env;
const client = new Anthropic({ baseURL: GATEWAY, apiKey: KEY, maxRetries: 0 });
const tools = [{ name: "weather", input_schema: { type: "object", properties: { city: { type: "string" } }, required: ["city"] } }];
const question = { role: "user", content: "What is the weather in Zürich?" };
const said = (messages) => client.messages.stream({ model, max_tokens: 1000, messages, tools }).finalMessage();

const { content, stop_reason } = await said([question]);
const call = content.find((block) => block.type === "tool_use");
assert.deepEqual(call.input, { city: "Zürich" });
assert.equal(stop_reason, "tool_use");
const result = { role: "user", content: [{ type: "tool_result", tool_use_id: call.id, content: "21 °C" }] };
const answer = await said([question, { role: "assistant", content }, result]);
assert.match(answer.content.at(-1).text, /21 °C/);
