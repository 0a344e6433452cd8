"""get_alerts on FastMCP, for comparison: the weather server's tool as a Python team would write it, and then tuned.

In: PORT, NWS_BASE_URL. Out: POST /mcp, stateless, answers as plain JSON.
"""

from fastmcp import FastMCP
from fastmcp.tools import ToolResult
from mcp_types import TextContent

from alerts import SCHEMA, Alerts
from serve import serve

alerts = Alerts(
    lambda text, structure: ToolResult(content=[TextContent(type="text", text=text)], structured_content=structure)
)
server = FastMCP("weather")


@server.tool(output_schema=SCHEMA)
async def get_alerts(state: str) -> ToolResult:
    """Get the active weather alerts of a US state."""
    return await alerts.of(state)


serve(server.http_app(stateless_http=True, json_response=True))
