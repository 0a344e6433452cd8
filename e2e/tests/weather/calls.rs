//! Every SDK lists and calls both tools, every way that it knows. Over SSE, two replicas mean that every other message lands on the
//! replica that does not hold the stream; that the endpoint reference is right behind a prefix; and that answers come as they are sent.

use mcp_fleet_e2e::clients::WAYS;

use crate::Test;
use crate::world::{PLACES, SDKS};

pub fn tests() -> Vec<Test> {
    let mut tests = Vec::new();
    for (sdk, client) in SDKS {
        for way in WAYS.into_iter().filter(|way| sdk.speaks(*way)) {
            for (place, where_) in PLACES {
                let name = format!("calls::{client}_calls_both_tools_{where_}_over_{}", way.name);
                tests.push(Test::new(name, async move |world| {
                    let visit = async |url: &str| world.call(sdk, way, url).await?.check(way);
                    world.at(place, visit).await
                }));
            }
        }
    }
    tests
}
