"""get_alerts on the official Python SDK, for comparison: its low-level server, which does the least for a call, and tuned.

In: PORT, NWS_BASE_URL. Out: POST /mcp, stateless, answers as plain JSON.
"""

import mcp_types as types
from mcp.server.lowlevel import Server

from alerts import SCHEMA, Alerts
from serve import serve

TOOL = types.Tool(
    name="get_alerts",
    description="Get the active weather alerts of a US state.",
    input_schema={"type": "object", "properties": {"state": {"type": "string"}}, "required": ["state"]},
    output_schema=SCHEMA,
)

alerts = Alerts(
    lambda text, structure: types.CallToolResult(
        content=[types.TextContent(type="text", text=text)], structured_content=structure
    )
)


async def list_tools(_context, _params) -> types.ListToolsResult:
    return types.ListToolsResult(tools=[TOOL])


async def call_tool(_context, params: types.CallToolRequestParams) -> types.CallToolResult:
    return await alerts.of(params.arguments["state"])


server = Server("weather", version="1", on_list_tools=list_tools, on_call_tool=call_tool)
serve(server.streamable_http_app(stateless_http=True, json_response=True))
