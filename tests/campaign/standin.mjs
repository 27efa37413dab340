// A provider that does what it is offered: it calls the tool it must or may call, with arguments that fit the tool's schema,
// writes JSON where a schema asks for it, and otherwise a sentence. Everything it says goes out by aimock, in the shape of
// whichever provider is called. Prints where it listens.
import { createServer, request as forward } from "node:http";
import { LLMock } from "../standins/node_modules/@copilotkit/aimock/dist/index.js";

const ANSWER = "It is sunny in Zürich, 21 °C, and it stays so all day long.";
const usage = (input, output) => ({ prompt_tokens: input, completion_tokens: output, total_tokens: input + output });

const textOf = (message) =>
  typeof message?.content === "string" ? message.content : (message?.content ?? []).map((part) => part.text ?? "").join(" ");

// Tools of agents that have many: the one to call, and with what.
const AGENT_TOOLS = {
  Read: (folder) => ({ file_path: `${folder}/notes.txt` }),
  exec_command: () => ({ cmd: "cat notes.txt" }),
  shell: () => ({ command: ["cat", "notes.txt"] }),
  shell_command: () => ({ command: "cat notes.txt" }),
};

function example(schema, name, said) {
  if (!schema || typeof schema !== "object") return "Zürich";
  if (schema.default !== undefined) return schema.default;
  if (schema.enum) return schema.enum[0];
  if (schema.const !== undefined) return schema.const;
  const one = schema.anyOf ?? schema.oneOf;
  if (one) return example(one.find((each) => each.type !== "null") ?? one[0], name, said);
  const type = Array.isArray(schema.type) ? schema.type[0] : schema.type;
  if (type === "object") return object(schema, said);
  if (type === "array") return [example(schema.items, name, said)];
  if (type === "integer" || type === "number") return 3;
  if (type === "boolean") return true;
  return said.match(/'([^']+)'/)?.[1] ?? "Zürich";
}

function object(schema, said) {
  const entries = Object.entries(schema.properties ?? {});
  return Object.fromEntries(entries.map(([name, each]) => [name, example(each, name, said)]));
}

function chosen(request) {
  const tools = (request.tools ?? []).map((tool) => tool.function ?? tool);
  const forced = request.tool_choice?.function?.name ?? request.tool_choice?.name;
  if (request.tool_choice === "none" || !tools.length) return undefined;
  return tools.find((tool) => tool.name === forced) ?? tools.find((tool) => tool.name in AGENT_TOOLS) ?? tools[0];
}

function respond(request) {
  const last = request.messages.at(-1);
  const said = request.messages.filter((message) => message.role === "user").map(textOf).join("\n");
  const tool = chosen(request);
  if (tool && last?.role !== "tool") {
    const folder = said.match(/in the folder (\S+)\./)?.[1];
    const args = AGENT_TOOLS[tool.name]?.(folder) ?? object(tool.parameters ?? {}, said);
    return { toolCalls: [{ name: tool.name, arguments: JSON.stringify(args) }], usage: usage(60, 12) };
  }
  if (request._context) {
    const schema = JSON.parse(Buffer.from(request._context, "base64"));
    return { content: JSON.stringify(example(schema, "", said)), usage: usage(50, 20) };
  }
  if (request.response_format?.type === "json_object") {
    return { content: JSON.stringify({ setup: "Why?", punchline: "Because." }), usage: usage(50, 20) };
  }
  if (last?.role === "tool") return { content: `${ANSWER} The tool said: ${textOf(last).slice(0, 200)}`, usage: usage(90, 20) };
  return { content: ANSWER, usage: usage(40, 15) };
}

// aimock knows the schema of an answer in Chat Completions only. In whatever protocol one is asked for, it is handed on as context.
function schemaOf(body) {
  const format = body.response_format ?? body.text?.format ?? body.output_config?.format;
  const amazon = body.outputConfig?.textFormat?.structure?.jsonSchema?.schema;
  const google = body.generationConfig?.responseJsonSchema ?? body.generationConfig?.responseSchema;
  return format?.json_schema?.schema ?? format?.schema ?? google ?? (amazon && JSON.parse(amazon));
}

// Nor does it read the schema of a tool where Google has put the full one.
function toldOfTools(body) {
  for (const tool of body.tools ?? []) {
    for (const each of tool.functionDeclarations ?? []) each.parameters ??= each.parametersJsonSchema;
  }
  return body;
}

const mock = new LLMock({ port: 0 });
mock.on({}, respond);
await mock.start();

const front = createServer(async (incoming, outgoing) => {
  const chunks = [];
  for await (const chunk of incoming) chunks.push(chunk);
  const asked = toldOfTools(JSON.parse(Buffer.concat(chunks)));
  const schema = schemaOf(asked);
  const body = Buffer.from(JSON.stringify(asked));
  const headers = { ...incoming.headers, "content-length": body.length };
  if (schema) headers["x-aimock-context"] = Buffer.from(JSON.stringify(schema)).toString("base64");
  const onward = forward(mock.url + incoming.url, { method: incoming.method, headers }, (answer) => {
    outgoing.writeHead(answer.statusCode, answer.headers);
    answer.pipe(outgoing);
  });
  onward.on("error", () => outgoing.destroy());
  onward.end(body);
});
front.listen(0, "127.0.0.1", () => console.log(`listening on http://127.0.0.1:${front.address().port}`));
