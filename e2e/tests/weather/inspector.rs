//! MCP Inspector lists and calls both tools on both endpoints.

use std::ffi::OsString;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use mcp_fleet_e2e::clients::{WAYS, Way};

use crate::Test;
use crate::world::{PLACES, Place, World, here};

const CALLS: [&[&str]; 2] = [
    &["--tool-name", "get_alerts", "--tool-arg", "state=WA"],
    &[
        "--tool-name",
        "get_forecast",
        "--tool-arg",
        "latitude=47.603",
        "--tool-arg",
        "longitude=-122.33",
    ],
];

pub fn tests() -> Vec<Test> {
    let mut tests = Vec::new();
    for way in WAYS {
        for (place, where_) in PLACES {
            let name = format!(
                "inspector::mcp_inspector_calls_both_tools_{where_}_over_{}",
                way.name
            );
            tests.push(Test::new(name, move |world| inspect(world, way, place)));
        }
    }
    tests
}

async fn inspect(world: Arc<World>, way: Way, place: Place) -> Result<()> {
    let visit = async |url: &str| {
        let transport = if way.transport == "sse" { "sse" } else { "http" };
        let era = if way.modern { "modern" } else { "legacy" };
        let url = way.endpoint(url);
        let at = ["--transport", transport, "--server-url", &url];
        let at = [&at[..], &["--protocol-era", era, "--method"]].concat();
        let ask = async |rest: &[&str]| {
            let arguments: Vec<_> = at.iter().chain(rest).map(OsString::from).collect();
            world.clients.inspect(&here, &arguments).await
        };
        let listed = ask(&["tools/list"]).await?;
        let tools = listed["tools"].as_array().context("a list")?;
        let names: Vec<_> = tools.iter().filter_map(|tool| tool["name"].as_str()).collect();
        ensure!(names == ["get_alerts", "get_forecast"], "both tools: {listed}");
        for call in CALLS {
            let called = ask(&[&["tools/call"], call].concat()).await?;
            let text = called["content"][0]["text"].as_str().unwrap_or_default();
            ensure!(
                !text.is_empty() && called["structuredContent"].is_object() && called["isError"] != true,
                "text and structure: {called}"
            );
        }
        Ok(())
    };
    world.at(place, visit).await
}
