// What both TypeScript clients of the tests do once they are connected: list the weather tools and call both.
//
// In: `connect`, which the script of each SDK provides; --url, --transport, --mode; the subscription key in MCP_KEY (none: no key
// is sent). Out: one JSON document on standard output: the revision, the tools, the answers, and for SSE when each event arrived
// (seconds since the start).
//
// With --attend it stays connected instead: a line when it is, and then for each line on standard input, a tool and its
// arguments, a line with the answer, or with why there is none.

import { createInterface } from "node:readline";
import { parseArgs } from "node:util";

const CALLS = [
  ["get_alerts", { state: "WA" }],
  ["get_forecast", { latitude: 47.603, longitude: -122.33 }],
];
// Between calls, so that an event which is held back until the end shows in its time.
const PAUSE_MILLISECONDS = 500;

const started = performance.now();
const seconds = () => (performance.now() - started) / 1000;
const events = [];

// Passes a stream on unchanged and notes when each event begins to arrive.
async function watchingFetch(url, init) {
  const response = await fetch(url, init);
  if (!response.body || !response.headers.get("content-type")?.startsWith("text/event-stream")) return response;
  const decoder = new TextDecoder();
  const watch = new TransformStream({
    transform(chunk, controller) {
      for (const match of decoder.decode(chunk, { stream: true }).matchAll(/^event: ?(\S+)/gm)) {
        events.push({ event: match[1], at: seconds() });
      }
      controller.enqueue(chunk);
    },
  });
  return new Response(response.body.pipeThrough(watch), response);
}

// What both SDKs' transports take: the key, and for SSE a fetch that notes arrivals.
function transportOptions() {
  const headers = process.env.MCP_KEY ? { "Ocp-Apim-Subscription-Key": process.env.MCP_KEY } : {};
  const watching = (target, init) => watchingFetch(target, { ...init, headers: { ...init?.headers, ...headers } });
  return { requestInit: { headers }, eventSourceInit: { fetch: watching } };
}

function answered(result) {
  return {
    error: result.isError === true,
    structured: result.structuredContent !== undefined,
    text: result.content.filter((block) => block.type === "text").map((block) => block.text).join("\n"),
  };
}

async function once({ client, revision }) {
  const tools = (await client.listTools()).tools.map((tool) => tool.name).sort();
  const calls = [];
  for (const [name, values] of CALLS) {
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MILLISECONDS));
    const sent = seconds();
    const result = await client.callTool({ name, arguments: values });
    calls.push({ tool: name, sent, answered: seconds(), ...answered(result) });
  }
  // Up to here the stream is open: nothing of this came because it ended.
  console.log(JSON.stringify({ revision, tools, calls, events }));
}

async function attend({ client, revision }) {
  // As agents do: the SDK checks answers by what the list says.
  await client.listTools();
  console.log(JSON.stringify({ revision }));
  for await (const line of createInterface({ input: process.stdin })) {
    const [name, values] = JSON.parse(line);
    // Whatever an SDK throws is an answer to the test.
    const failed = (error) => ({ failed: String(error) });
    const answer = await client.callTool({ name, arguments: values }).then(answered, failed);
    console.log(JSON.stringify(answer));
  }
}

export async function main(connect) {
  const { values: options } = parseArgs({
    options: {
      url: { type: "string" },
      transport: { type: "string" },
      mode: { type: "string", default: "auto" },
      attend: { type: "boolean", default: false },
    },
  });
  const connected = await connect({ ...options, url: new URL(options.url), ...transportOptions() });
  await (options.attend ? attend(connected) : once(connected));
  await connected.client.close();
  process.exit(0);
}
