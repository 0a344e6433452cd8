// The official TypeScript SDK, second line. visit.mjs says what goes in and out; trusted certificates in NODE_EXTRA_CA_CERTS.

import { Client, SSEClientTransport, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";
import { main } from "./visit.mjs";

await main(async ({ url, transport, mode, requestInit, eventSourceInit }) => {
  const negotiated = ["auto", "legacy"].includes(mode) ? mode : { pin: mode };
  const client = new Client({ name: "mcp-fleet-e2e", version: "1.0.0" }, { versionNegotiation: { mode: negotiated } });
  const kind = transport === "sse" ? SSEClientTransport : StreamableHTTPClientTransport;
  await client.connect(new kind(url, transport === "sse" ? { requestInit, eventSourceInit } : { requestInit }));
  return { client, revision: client.getNegotiatedProtocolVersion() };
});
