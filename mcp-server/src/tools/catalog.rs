//! What tools/list answers, built once: names, descriptions, schemas, annotations.
//!
//! Output schemas have an object at their root: an array, which the 2026-07-28 revision allows, breaks every older client.

use super::STATE_MIRROR;
use crate::protocol::listing::Listing;
use serde_json::{Value, json};

/// What tools/list answers. Only 2026-07-28 knows arguments that are repeated in a header.
pub fn listing() -> Listing {
    let mut alerts = get_alerts();
    let handshake = json!([alerts, get_forecast()]);
    alerts["inputSchema"]["properties"][STATE_MIRROR.argument]["x-mcp-header"] = STATE_MIRROR.name.into();
    Listing::of_both("tools", &handshake, &json!([alerts, get_forecast()]))
}

fn annotations(title: &str) -> Value {
    json!({"title": title, "readOnlyHint": true, "destructiveHint": false, "idempotentHint": true, "openWorldHint": true})
}

/// Every answer says how old it is.
fn as_of() -> Value {
    json!({"type": "string", "format": "date-time", "description": "When the National Weather Service said this"})
}

fn stale() -> Value {
    json!({
        "type": "boolean",
        "description": "True when the service cannot be asked at the moment and this is its last answer: anything newer is missing"
    })
}

fn get_alerts() -> Value {
    json!({
        "name": "get_alerts",
        "title": "Weather alerts",
        "description": "Get the active weather alerts (watches, warnings, advisories) of a US state or territory.",
        "inputSchema": {
            "type": "object",
            "properties": {
                "state": {
                    "type": "string",
                    "description": "Two-letter code or full name of a US state or territory, for example CA or California"
                }
            },
            "required": ["state"],
            "additionalProperties": false
        },
        "outputSchema": {
            "type": "object",
            "properties": {
                "alerts": {
                    "type": "array",
                    "description": "Active alerts; empty when there are none (or, when stale, when there were none)",
                    "items": {
                        "type": "object",
                        "properties": {
                            "event": {"type": "string", "description": "Kind of alert, for example Flood Watch"},
                            "area": {"type": "string", "description": "Places that it is for"},
                            "severity": {"type": "string", "description": "Extreme, Severe, Moderate, Minor or Unknown"},
                            "description": {"type": "string", "description": "What is expected"},
                            "instructions": {"type": "string", "description": "What to do"}
                        },
                        "required": ["event", "area", "severity", "description", "instructions"]
                    }
                },
                "asOf": as_of(),
                "stale": stale()
            },
            "required": ["alerts", "asOf", "stale"]
        },
        "annotations": annotations("Weather alerts")
    })
}

fn get_forecast() -> Value {
    json!({
        "name": "get_forecast",
        "title": "Weather forecast",
        "description": "Get the weather forecast of the next days for a place in the United States or its territories.",
        "inputSchema": {
            "type": "object",
            "properties": {
                "latitude": {
                    "type": "number", "minimum": -90, "maximum": 90,
                    "description": "Latitude in degrees, north positive, for example 47.6062"
                },
                "longitude": {
                    "type": "number", "minimum": -180, "maximum": 180,
                    "description": "Longitude in degrees, east positive, for example -122.3321"
                }
            },
            "required": ["latitude", "longitude"],
            "additionalProperties": false
        },
        "outputSchema": {
            "type": "object",
            "properties": {
                "latitude": {"type": "number", "description": "Degrees, rounded to four decimals"},
                "longitude": {"type": "number", "description": "Degrees, rounded to four decimals"},
                "periods": {
                    "type": "array",
                    "description": "The next periods, soonest first",
                    "items": {
                        "type": "object",
                        "properties": {
                            "name": {"type": "string", "description": "For example Tonight"},
                            "temperature": {"type": "number", "description": "Left out when not known"},
                            "temperature_unit": {"type": "string", "description": "F or C"},
                            "wind_speed": {"type": "string", "description": "For example 5 to 10 mph"},
                            "wind_direction": {"type": "string", "description": "For example SSE"},
                            "detailed_forecast": {"type": "string", "description": "The forecast in words"}
                        },
                        "required": ["name", "temperature_unit", "wind_speed", "wind_direction", "detailed_forecast"]
                    }
                },
                "asOf": as_of(),
                "stale": stale()
            },
            "required": ["latitude", "longitude", "periods", "asOf", "stale"]
        },
        "annotations": annotations("Weather forecast")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tools(members: Vec<u8>) -> Vec<Value> {
        let list: Value =
            serde_json::from_str(&format!("{{{}}}", String::from_utf8(members).unwrap())).unwrap();
        list["tools"].as_array().unwrap().clone()
    }

    #[test]
    fn every_schema_has_an_object_root() {
        let tools = tools(listing().modern);
        assert_eq!(tools.len(), 2);
        for tool in tools {
            assert_eq!(tool["inputSchema"]["type"], "object");
            assert_eq!(tool["outputSchema"]["type"], "object");
            assert_eq!(tool["annotations"]["readOnlyHint"], true);
            assert_eq!(tool["annotations"]["openWorldHint"], true);
        }
    }

    #[test]
    fn only_the_stateless_revision_is_told_of_the_header() {
        let mut modern = tools(listing().modern);
        let state = modern[0]["inputSchema"]["properties"]["state"]
            .as_object_mut()
            .unwrap();
        assert_eq!(state.remove("x-mcp-header"), Some(json!("State")));
        assert_eq!(modern, tools(listing().handshake));
        assert!(!json!(modern).to_string().contains("x-mcp-header"));
    }
}
