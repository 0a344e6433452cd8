// The official TypeScript SDK, first line, which knows revisions with a handshake. visit.mjs says what goes in and out.

import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { SSEClientTransport } from "@modelcontextprotocol/sdk/client/sse.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { main } from "./visit.mjs";

await main(async ({ url, transport, requestInit, eventSourceInit }) => {
  const client = new Client({ name: "mcp-fleet-e2e", version: "1.0.0" });
  const kind = transport === "sse" ? SSEClientTransport : StreamableHTTPClientTransport;
  const way = new kind(url, transport === "sse" ? { requestInit, eventSourceInit } : { requestInit });
  // The SDK tells the revision only to its transport.
  let revision;
  const tell = way.setProtocolVersion.bind(way);
  way.setProtocolVersion = (negotiated) => tell((revision = negotiated));
  await client.connect(way);
  return { client, revision };
});
