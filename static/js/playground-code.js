// The playground's "Get code": what a call was made with → a program that makes it. No page, no network.
// asked = { model, system, messages: [{role, content}], temperature, maxTokens, effort, feature, baseUrl }; what is not set is undefined or "".
window.gatehouseCode = (() => {
  const KEY = "GATEHOUSE_API_KEY";
  const FEATURE = "x-gatehouse-feature";
  // A string of JSON is one of Python and TypeScript too.
  const text = (value) => JSON.stringify(value);
  const shell = (value) => `'${value.replaceAll("'", `'\\''`)}'`;
  const given = (pairs) => pairs.filter(([, value]) => value !== undefined && value !== "");

  const conversation = ({ system, messages }) => [...(system ? [{ role: "system", content: system }] : []), ...messages];

  const openaiBody = (asked) =>
    given([
      ["model", asked.model],
      ["messages", conversation(asked)],
      ["temperature", asked.temperature],
      ["max_completion_tokens", asked.maxTokens],
      ["reasoning_effort", asked.effort],
    ]);

  // Messages needs a bound on the answer, and knows no effort below low.
  const anthropicBody = (asked) =>
    given([
      ["model", asked.model],
      ["max_tokens", asked.maxTokens ?? 1024],
      ["system", asked.system],
      ["messages", asked.messages],
      ["temperature", asked.temperature],
      ["output_config", asked.effort ? { effort: asked.effort === "minimal" ? "low" : asked.effort } : undefined],
    ]);

  const lines = (list, write, indent) => `[\n${list.map((item) => `${indent}${indent}${write(item)},\n`).join("")}${indent}]`;
  const python = (value) => (typeof value === "object" ? `{${Object.entries(value).map(([name, inner]) => `${text(name)}: ${python(inner)}`).join(", ")}}` : text(value));
  const script = (value) => (typeof value === "object" ? `{ ${Object.entries(value).map(([name, inner]) => `${name}: ${script(inner)}`).join(", ")} }` : text(value));
  const member = (value, write, indent) => (Array.isArray(value) ? lines(value, write, indent) : write(value));
  const pythonArguments = (pairs) => pairs.map(([name, value]) => `    ${name}=${member(value, python, "    ")},\n`).join("");
  const scriptMembers = (pairs) => pairs.map(([name, value]) => `  ${name}: ${member(value, script, "  ")},\n`).join("");
  const root = (asked) => asked.baseUrl.replace(/\/v1$/, "");
  const pythonHeaders = ({ feature }) => (feature ? `, default_headers={${text(FEATURE)}: ${text(feature)}}` : "");
  const scriptHeaders = ({ feature }) => (feature ? `, defaultHeaders: { ${text(FEATURE)}: ${text(feature)} }` : "");

  return {
    curl: (asked) =>
      [
        `curl ${asked.baseUrl}/chat/completions`,
        `  -H "Authorization: Bearer $${KEY}"`,
        `  -H "Content-Type: application/json"`,
        ...(asked.feature ? [`  -H ${shell(`${FEATURE}: ${asked.feature}`)}`] : []),
        `  -d ${shell(JSON.stringify(Object.fromEntries(openaiBody(asked)), null, 2))}`,
      ].join(" \\\n"),

    openaiPython: (asked) => `import os

from openai import OpenAI

client = OpenAI(base_url=${text(asked.baseUrl)}, api_key=os.environ["${KEY}"]${pythonHeaders(asked)})
answer = client.chat.completions.create(
${pythonArguments(openaiBody(asked))})
print(answer.choices[0].message.content)`,

    openaiTypeScript: (asked) => `import OpenAI from "openai";

const client = new OpenAI({ baseURL: ${text(asked.baseUrl)}, apiKey: process.env.${KEY}${scriptHeaders(asked)} });
const answer = await client.chat.completions.create({
${scriptMembers(openaiBody(asked))}});
console.log(answer.choices[0].message.content);`,

    anthropicPython: (asked) => `import os

from anthropic import Anthropic

client = Anthropic(base_url=${text(root(asked))}, api_key=os.environ["${KEY}"]${pythonHeaders(asked)})
answer = client.messages.create(
${pythonArguments(anthropicBody(asked))})
print("".join(block.text for block in answer.content if block.type == "text"))`,

    anthropicTypeScript: (asked) => `import Anthropic from "@anthropic-ai/sdk";

const client = new Anthropic({ baseURL: ${text(root(asked))}, apiKey: process.env.${KEY}${scriptHeaders(asked)} });
const answer = await client.messages.create({
${scriptMembers(anthropicBody(asked))}});
console.log(answer.content.map((block) => (block.type === "text" ? block.text : "")).join(""));`,
  };
})();
