"""Lists and calls the weather tools with the official Python SDK.

In: --url, --transport, --mode; the subscription key in MCP_KEY (none: no key is sent); trusted certificates in
SSL_CERT_FILE. Out: one JSON document on standard output: the revision, the tools, the answers, and for SSE when each
event arrived (seconds since the start).
"""

import argparse
import asyncio
import json
import logging
import os
import time

import httpx2
from mcp import Client
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client

CALLS = [
    ("get_alerts", {"state": "WA"}),
    ("get_forecast", {"latitude": 47.603, "longitude": -122.33}),
]
# Between calls, so that an event which is held back until the end shows in its time.
PAUSE_SECONDS = 0.5


class Arrivals(logging.Handler):
    """Notes when the SDK says that it received an event."""

    PREFIX = "Received SSE event: "

    def __init__(self, started):
        super().__init__(logging.DEBUG)
        self.started = started
        self.events = []

    def emit(self, record):
        text = record.getMessage()
        if text.startswith(self.PREFIX):
            self.events.append({"event": text.removeprefix(self.PREFIX), "at": time.monotonic() - self.started})


def transport_of(arguments, headers):
    if arguments.transport == "sse":
        return sse_client(arguments.url, headers=headers, timeout=20)
    client = httpx2.AsyncClient(headers=headers, timeout=httpx2.Timeout(20, read=60))
    return streamable_http_client(arguments.url, http_client=client)


async def run(arguments):
    key = os.environ.get("MCP_KEY")
    headers = {"Ocp-Apim-Subscription-Key": key} if key else {}
    started = time.monotonic()
    arrivals = Arrivals(started)
    logger = logging.getLogger("mcp.client.sse")
    logger.setLevel(logging.DEBUG)
    logger.addHandler(arrivals)
    logger.propagate = False

    answer = {"calls": []}
    async with Client(transport_of(arguments, headers), mode=arguments.mode, read_timeout_seconds=30) as client:
        answer["revision"] = client.protocol_version
        answer["server"] = client.server_info.name if client.server_info else None
        answer["tools"] = sorted(tool.name for tool in (await client.list_tools()).tools)
        for name, values in CALLS:
            await asyncio.sleep(PAUSE_SECONDS)
            sent = time.monotonic() - started
            result = await client.call_tool(name, values)
            answer["calls"].append(
                {
                    "tool": name,
                    "sent": sent,
                    "answered": time.monotonic() - started,
                    "error": bool(result.is_error),
                    "structured": result.structured_content is not None,
                    "text": "\n".join(block.text for block in result.content if block.type == "text"),
                }
            )
        # Up to here the stream is open: nothing of this came because it ended.
        answer["events"] = list(arrivals.events)
    return answer


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    parser.add_argument("--transport", choices=["streamable-http", "sse"], required=True)
    parser.add_argument("--mode", default="auto", help="auto, legacy, or a revision such as 2026-07-28")
    print(json.dumps(asyncio.run(run(parser.parse_args()))))


main()
