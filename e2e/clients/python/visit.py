"""What every Python client of the tests does once it is connected: list the weather tools and call both.

In: `connect`, which the script of each SDK provides; --url, --transport, --mode; the subscription key in MCP_KEY (none: no key
is sent). Out: one JSON document on standard output: the revision, the tools, the answers, and for SSE when each event arrived
(seconds since the start).

With --attend it stays connected instead: a line when it is, and then for each line on standard input, a tool and its arguments,
a line with the answer, or with why there is none.
"""

import argparse
import asyncio
import dataclasses
import json
import logging
import os
import sys
import time
from collections.abc import Awaitable, Callable

CALLS = [
    ("get_alerts", {"state": "WA"}),
    ("get_forecast", {"latitude": 47.603, "longitude": -122.33}),
]
# Between calls, so that an event which is held back until the end shows in its time.
PAUSE_SECONDS = 0.5


@dataclasses.dataclass
class Connected:
    """A client after its handshake, whatever its SDK calls things."""

    revision: str
    list_tools: Callable[[], Awaitable[list[str]]]
    # A tool and its arguments; the answer of `answered`.
    call: Callable[[str, dict], Awaitable[dict]]


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


def answered(error, structured, content):
    return {
        "error": bool(error),
        "structured": structured is not None,
        "text": "\n".join(block.text for block in content if block.type == "text"),
    }


async def once(client, arrivals):
    answer = {"revision": client.revision, "tools": sorted(await client.list_tools()), "calls": []}
    for name, values in CALLS:
        await asyncio.sleep(PAUSE_SECONDS)
        sent = time.monotonic() - arrivals.started
        result = await client.call(name, values)
        times = {"sent": sent, "answered": time.monotonic() - arrivals.started}
        answer["calls"].append({"tool": name, **times, **result})
    # Up to here the stream is open: nothing of this came because it ended.
    answer["events"] = list(arrivals.events)
    print(json.dumps(answer))


async def attend(client):
    # As agents do. The official SDK looks a tool's schema up here when it checks an answer, and would ask again if it had none.
    await client.list_tools()
    print(json.dumps({"revision": client.revision}), flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        name, values = json.loads(line)
        try:
            result = await client.call(name, values)
        except Exception as error:  # Whatever an SDK throws is an answer to the test.
            result = {"failed": repr(error)}
        print(json.dumps(result), flush=True)


async def run(connect, arguments):
    arrivals = Arrivals(time.monotonic())
    logger = logging.getLogger("mcp.client.sse")
    logger.setLevel(logging.DEBUG)
    logger.addHandler(arrivals)
    logger.propagate = False
    key = os.environ.get("MCP_KEY")
    headers = {"Ocp-Apim-Subscription-Key": key} if key else {}
    async with connect(arguments, headers) as client:
        await (attend(client) if arguments.attend else once(client, arrivals))


def main(connect):
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    parser.add_argument("--transport", choices=["streamable-http", "sse"], required=True)
    parser.add_argument("--mode", default="auto", help="auto, legacy, or a revision such as 2026-07-28")
    parser.add_argument("--attend", action="store_true", help="stay connected and call what standard input says")
    asyncio.run(run(connect, parser.parse_args()))
