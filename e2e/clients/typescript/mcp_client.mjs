// Lists and calls the weather tools with the official TypeScript client.
//
// In: --url, --transport, --mode; the subscription key in MCP_KEY (none: no key is sent); trusted certificates in
// NODE_EXTRA_CA_CERTS. Out: one JSON document on standard output: the revision, the tools, the answers, and for SSE when
// each event arrived (seconds since the start).

import { parseArgs } from "node:util";
import { Client, SSEClientTransport, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";

const CALLS = [
  ["get_alerts", { state: "WA" }],
  ["get_forecast", { latitude: 47.603, longitude: -122.33 }],
];
// Between calls, so that an event which is held back until the end shows in its time.
const PAUSE_MILLISECONDS = 500;

const { values: options } = parseArgs({
  options: { url: { type: "string" }, transport: { type: "string" }, mode: { type: "string", default: "auto" } },
});
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

function transportOf(url) {
  const requestInit = { headers: process.env.MCP_KEY ? { "Ocp-Apim-Subscription-Key": process.env.MCP_KEY } : {} };
  if (options.transport !== "sse") return new StreamableHTTPClientTransport(url, { requestInit });
  const eventSourceInit = {
    fetch: (target, init) => watchingFetch(target, { ...init, headers: { ...init?.headers, ...requestInit.headers } }),
  };
  return new SSEClientTransport(url, { requestInit, eventSourceInit });
}

const mode = ["auto", "legacy"].includes(options.mode) ? options.mode : { pin: options.mode };
const client = new Client({ name: "mcp-fleet-e2e", version: "1.0.0" }, { versionNegotiation: { mode } });
await client.connect(transportOf(new URL(options.url)));
const answer = {
  revision: client.getNegotiatedProtocolVersion(),
  server: client.getServerVersion()?.name,
  tools: (await client.listTools()).tools.map((tool) => tool.name).sort(),
  calls: [],
};
for (const [name, values] of CALLS) {
  await new Promise((resolve) => setTimeout(resolve, PAUSE_MILLISECONDS));
  const sent = seconds();
  const result = await client.callTool({ name, arguments: values });
  answer.calls.push({
    tool: name,
    sent,
    answered: seconds(),
    error: result.isError === true,
    structured: result.structuredContent !== undefined,
    text: result.content.filter((block) => block.type === "text").map((block) => block.text).join("\n"),
  });
}
// Up to here the stream is open: nothing of this came because it ended.
answer.events = [...events];
await client.close();
console.log(JSON.stringify(answer));
process.exit(0);
