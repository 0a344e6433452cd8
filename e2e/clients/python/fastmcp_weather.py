"""get_alerts on FastMCP, for comparison: the weather server's tool as a Python team would write it, and then tuned.

In: PORT, NWS_BASE_URL. Out: POST /mcp, stateless, answers as plain JSON. The answer to a call is kept ready as a whole, as in
the weather server, so that neither the weather service nor its JSON is measured.
"""

import os
import time

import httpx2
import uvicorn
from fastmcp import FastMCP
from fastmcp.tools import ToolResult
from mcp_types import TextContent

KEPT_SECONDS = 60
FIELDS = {
    "event": "Event",
    "area": "Area",
    "severity": "Severity",
    "description": "Description",
    "instructions": "Instructions",
}

http = httpx2.AsyncClient(
    base_url=os.environ["NWS_BASE_URL"],
    headers={"User-Agent": "fastmcp-weather (benchmark)", "Accept": "application/geo+json"},
)
kept: dict[str, tuple[float, ToolResult]] = {}
server = FastMCP("weather")


def read(feature: dict) -> dict[str, str]:
    properties = feature["properties"]
    return {
        "event": properties.get("event") or "Unknown",
        "area": properties.get("areaDesc") or "Unknown",
        "severity": properties.get("severity") or "Unknown",
        "description": properties.get("description") or "No description available",
        "instructions": properties.get("instruction") or "No specific instructions provided",
    }


@server.tool(
    output_schema={
        "type": "object",
        "properties": {
            "alerts": {"type": "array", "items": {"type": "object", "additionalProperties": {"type": "string"}}}
        },
        "required": ["alerts"],
    }
)
async def get_alerts(state: str) -> ToolResult:
    """Get the active weather alerts of a US state."""
    until, result = kept.get(state, (0.0, None))
    if result is None or until < time.monotonic():
        response = await http.get(f"/alerts/active/area/{state}")
        response.raise_for_status()
        alerts = [read(feature) for feature in response.json()["features"]]
        text = "\n---\n".join("\n".join(f"{title}: {alert[key]}" for key, title in FIELDS.items()) for alert in alerts)
        result = ToolResult(content=[TextContent(type="text", text=text)], structured_content={"alerts": alerts})
        kept[state] = (time.monotonic() + KEPT_SECONDS, result)
    return result


uvicorn.run(
    server.http_app(stateless_http=True, json_response=True),
    host="127.0.0.1",
    port=int(os.environ["PORT"]),
    loop="uvloop",
    http="httptools",
    access_log=False,
    log_level="warning",
)
