"""FastMCP's client, which stands on the official SDK with machinery of its own. visit.py says what goes in and out."""

import contextlib

from fastmcp import Client
from fastmcp.client.transports import SSETransport, StreamableHttpTransport

import visit


@contextlib.asynccontextmanager
async def connect(arguments, headers):
    kind = SSETransport if arguments.transport == "sse" else StreamableHttpTransport
    async with Client(kind(arguments.url, headers=headers), timeout=30, mode=arguments.mode) as client:

        async def list_tools():
            return [tool.name for tool in await client.list_tools()]

        async def call(name, values):
            result = await client.call_tool(name, values, raise_on_error=False)
            return visit.answered(result.is_error, result.structured_content, result.content)

        yield visit.Connected(client.protocol_version, list_tools, call)


visit.main(connect)
