// get_alerts on the official TypeScript SDK, for comparison: its low-level server, which does the least for a call.
//
// In: PORT, NWS_BASE_URL. Out: POST /mcp, stateless, answers as plain JSON. The answer to a call is kept ready, so that neither
// the weather service nor its JSON is measured; text and structure are the weather server's.

import { createServer } from 'node:http';
import { toNodeHandler } from '@modelcontextprotocol/node';
import { Server, createMcpHandler } from '@modelcontextprotocol/server';

const KEPT_MILLISECONDS = 60_000;
const FIELDS = {
  event: ['Event', 'event', 'Unknown'],
  area: ['Area', 'areaDesc', 'Unknown'],
  severity: ['Severity', 'severity', 'Unknown'],
  description: ['Description', 'description', 'No description available'],
  instructions: ['Instructions', 'instruction', 'No specific instructions provided'],
};
const TOOL = {
  name: 'get_alerts',
  description: 'Get the active weather alerts of a US state.',
  inputSchema: { type: 'object', properties: { state: { type: 'string' } }, required: ['state'] },
};

const kept = new Map();

async function alertsOf(state) {
  const known = kept.get(state);
  if (known && known.until > Date.now()) return known.result;
  const response = await fetch(`${process.env.NWS_BASE_URL}/alerts/active/area/${state}`, {
    headers: { 'user-agent': 'node-weather (benchmark)', accept: 'application/geo+json' },
  });
  if (!response.ok) throw new Error(`the weather service answered ${response.status}`);
  const { features } = await response.json();
  const alerts = features.map(({ properties }) =>
    Object.fromEntries(Object.entries(FIELDS).map(([key, [, from, otherwise]]) => [key, properties[from] || otherwise])),
  );
  const text = alerts
    .map((alert) => Object.entries(FIELDS).map(([key, [title]]) => `${title}: ${alert[key]}`).join('\n'))
    .join('\n---\n');
  const asOf = new Date().toISOString().replace(/\.\d+Z$/, 'Z');
  const result = { content: [{ type: 'text', text }], structuredContent: { alerts, asOf, stale: false } };
  kept.set(state, { until: Date.now() + KEPT_MILLISECONDS, result });
  return result;
}

function weather() {
  const server = new Server({ name: 'weather', version: '1' }, { capabilities: { tools: {} } });
  server.setRequestHandler('tools/list', () => ({ tools: [TOOL] }));
  server.setRequestHandler('tools/call', ({ params }) => alertsOf(params.arguments.state));
  return server;
}

const handler = toNodeHandler(createMcpHandler(weather, { responseMode: 'json' }));
createServer(handler).listen(Number(process.env.PORT), '127.0.0.1');
