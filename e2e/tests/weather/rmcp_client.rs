//! rmcp's own client lists and calls both tools in both eras.

use std::sync::Arc;

use anyhow::{Result, ensure};
use mcp_fleet_e2e::clients::MODERN;
use rmcp::model::{CallToolRequestParams, ProtocolVersion};
use rmcp::service::{ClientLifecycleMode, ClientServiceExt as _};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use serde_json::json;

use crate::Test;
use crate::session::client;
use crate::world::{PLACES, Place, World};

pub fn tests() -> Vec<Test> {
    let mut tests = Vec::new();
    for (modern, era) in [(true, "modern"), (false, "handshake")] {
        for (place, where_) in PLACES {
            let name = format!("rmcp_client::rmcp_calls_both_tools_{where_}_over_streamable_http_{era}");
            tests.push(Test::new(name, move |world| visit(world, place, modern)));
        }
    }
    tests
}

async fn visit(world: Arc<World>, place: Place, modern: bool) -> Result<()> {
    let visit = async |url: &str| {
        let config = StreamableHttpClientTransportConfig::with_uri(url);
        let transport = StreamableHttpClientTransport::with_client(client()?, config);
        let lifecycle = if modern {
            ClientLifecycleMode::Discover {
                preferred_versions: vec![ProtocolVersion::V_2026_07_28],
            }
        } else {
            ClientLifecycleMode::Initialize
        };
        let service = ().serve_with_lifecycle(transport, lifecycle).await?;
        let revision = service.peer_info().map(|info| info.protocol_version.to_string());
        ensure!(
            (revision.as_deref() == Some(MODERN)) == modern,
            "the era is the one that was asked for: {revision:?}"
        );
        let tools = service.list_all_tools().await?;
        let names: Vec<_> = tools.iter().map(|tool| tool.name.as_ref()).collect();
        ensure!(names == ["get_alerts", "get_forecast"], "both tools: {names:?}");
        let calls = [
            ("get_alerts", json!({"state": "WA"})),
            ("get_forecast", json!({"latitude": 47.603, "longitude": -122.33})),
        ];
        for (name, arguments) in calls {
            let call = CallToolRequestParams::new(name).with_arguments(rmcp::model::object(arguments));
            let result = service.call_tool(call).await?;
            ensure!(
                result.is_error == Some(false) && result.structured_content.is_some(),
                "text and structure: {result:?}"
            );
        }
        service.cancel().await?;
        Ok(())
    };
    world.at(place, visit).await
}
