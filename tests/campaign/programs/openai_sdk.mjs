// The official OpenAI SDK for Node: a task with a tool by its own tool runner (chat) or by hand (responses), streamed.
import assert from "node:assert/strict";
import OpenAI from "openai";

const { GATEWAY, KEY, MODEL: model, PROTOCOL } = process.env;
const client = new OpenAI({ baseURL: `${GATEWAY}/v1`, apiKey: KEY, maxRetries: 0 });
const parameters = { type: "object", properties: { city: { type: "string" } }, required: ["city"], additionalProperties: false };
const question = { role: "user", content: "What is the weather in Zürich?" };

async function chat() {
  const asked = [];
  const weather = (args) => (asked.push(args), "21 °C");
  const tools = [{ type: "function", function: { name: "weather", parse: JSON.parse, function: weather, parameters } }];
  const runner = client.chat.completions.runTools({ model, messages: [question], tools, stream: true });
  const answer = await runner.finalContent();
  assert.deepEqual(asked, [{ city: "Zürich" }]);
  return answer;
}

async function responses() {
  const tools = [{ type: "function", name: "weather", parameters, strict: true }];
  const said = (input) => client.responses.stream({ model, input, tools, store: false }).finalResponse();
  const call = (await said([question])).output.find((item) => item.type === "function_call");
  assert.deepEqual(JSON.parse(call.arguments), { city: "Zürich" });
  const { call_id, name } = call;
  const turn = { type: "function_call", call_id, name, arguments: call.arguments };
  return (await said([question, turn, { type: "function_call_output", call_id, output: "21 °C" }])).output_text;
}

assert.match(await { chat, responses }[PROTOCOL](), /21 °C/);
