"""The official Python SDK, first line (mcp 1), which knows revisions with a handshake. visit.py says what goes in and out."""

import contextlib
import datetime

import httpx
from mcp import ClientSession
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client

import visit


def transport_of(arguments, headers):
    if arguments.transport == "sse":
        return sse_client(arguments.url, headers=headers, timeout=20)
    client = httpx.AsyncClient(headers=headers, timeout=httpx.Timeout(20, read=60))
    return streamable_http_client(arguments.url, http_client=client)


@contextlib.asynccontextmanager
async def connect(arguments, headers):
    async with transport_of(arguments, headers) as streams:
        async with ClientSession(streams[0], streams[1], datetime.timedelta(seconds=30)) as session:
            revision = (await session.initialize()).protocolVersion

            async def list_tools():
                return [tool.name for tool in (await session.list_tools()).tools]

            async def call(name, values):
                result = await session.call_tool(name, values)
                return visit.answered(result.isError, result.structuredContent, result.content)

            yield visit.Connected(revision, list_tools, call)


visit.main(connect)
