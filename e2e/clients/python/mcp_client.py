"""The official Python SDK, second line (mcp 2). visit.py says what goes in and out; trusted certificates in SSL_CERT_FILE."""

import contextlib

import httpx2
from mcp import Client
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client

import visit


def transport_of(arguments, headers):
    if arguments.transport == "sse":
        return sse_client(arguments.url, headers=headers, timeout=20)
    client = httpx2.AsyncClient(headers=headers, timeout=httpx2.Timeout(20, read=60))
    return streamable_http_client(arguments.url, http_client=client)


@contextlib.asynccontextmanager
async def connect(arguments, headers):
    async with Client(transport_of(arguments, headers), mode=arguments.mode, read_timeout_seconds=30) as client:

        async def list_tools():
            return [tool.name for tool in (await client.list_tools()).tools]

        async def call(name, values):
            result = await client.call_tool(name, values)
            return visit.answered(result.is_error, result.structured_content, result.content)

        yield visit.Connected(client.protocol_version, list_tools, call)


visit.main(connect)
