"""The answer of get_alerts, kept ready, for the servers that the weather server is measured beside.

In: a state, and a function that makes a library's result of text and structure. Out: that result, made once a minute, so that
neither the weather service nor its JSON is measured. Text and structure are the weather server's.
"""

import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Generic, TypeVar

import httpx2

Result = TypeVar("Result")
KEPT_SECONDS = 60
FIELDS = {
    "event": "Event",
    "area": "Area",
    "severity": "Severity",
    "description": "Description",
    "instructions": "Instructions",
}
SCHEMA = {
    "type": "object",
    "properties": {
        "alerts": {"type": "array", "items": {"type": "object", "additionalProperties": {"type": "string"}}},
        "asOf": {"type": "string"},
        "stale": {"type": "boolean"},
    },
    "required": ["alerts", "asOf", "stale"],
}


def read(feature: dict) -> dict[str, str]:
    properties = feature["properties"]
    return {
        "event": properties.get("event") or "Unknown",
        "area": properties.get("areaDesc") or "Unknown",
        "severity": properties.get("severity") or "Unknown",
        "description": properties.get("description") or "No description available",
        "instructions": properties.get("instruction") or "No specific instructions provided",
    }


class Alerts(Generic[Result]):
    def __init__(self, make: Callable[[str, dict], Result]):
        self.make = make
        self.kept: dict[str, tuple[float, Result]] = {}
        self.http = httpx2.AsyncClient(
            base_url=os.environ["NWS_BASE_URL"],
            headers={"User-Agent": "python-weather (benchmark)", "Accept": "application/geo+json"},
        )

    async def of(self, state: str) -> Result:
        until, result = self.kept.get(state, (0.0, None))
        if result is None or until < time.monotonic():
            response = await self.http.get(f"/alerts/active/area/{state}")
            response.raise_for_status()
            alerts = [read(feature) for feature in response.json()["features"]]
            text = "\n---\n".join("\n".join(f"{title}: {alert[key]}" for key, title in FIELDS.items()) for alert in alerts)
            as_of = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            result = self.make(text, {"alerts": alerts, "asOf": as_of, "stale": False})
            self.kept[state] = (time.monotonic() + KEPT_SECONDS, result)
        return result
