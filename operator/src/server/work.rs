//! What each lane does with a key. In: a key, from the lane's queue; out: when to come back to it. What was found goes into
//! the lanes' table.

use std::sync::Arc;
use std::time::Instant;

use kube::ResourceExt as _;
use mcp_fleet_crds::McpServer;
use tracing::Instrument as _;

use super::error::RegisterError;
use super::{Controller, reconcile, register, verify};
use crate::constants::kinds;
use crate::runtime::context::Key;
use crate::runtime::queue::Again;
use crate::runtime::telemetry::pass_span;

/// The workload lane: a pass.
pub(super) async fn pass(key: Key, controller: Arc<Controller>) -> Again {
    match server(&key, &controller) {
        Some(server) => reconcile(server, &controller).await,
        None => Again::WhenAsked,
    }
}

/// The registration lane: Azure Resource Manager alone. Within a limit of its own, since one that hangs does not end.
pub(super) async fn registration(key: Key, controller: Arc<Controller>) -> Again {
    let Some(server) = server(&key, &controller) else {
        return Again::WhenAsked;
    };
    let (context, uid) = (&controller.context, server.uid().unwrap_or_default());
    let Some((wish, mut memory)) = context.lanes.begin_registration(&key, &uid) else {
        return Again::WhenAsked;
    };
    let limit = context.settings.pass_limit;
    async {
        let work = Box::pin(register::fulfil(context, &server, &wish, &mut memory));
        let result = tokio::time::timeout(limit, work).await;
        let result = result.unwrap_or(Err(RegisterError::Timeout {
            seconds: limit.as_secs(),
        }));
        context.lanes.end_registration(&key, &uid, &wish, memory, result)
    }
    .instrument(pass_span(kinds::SERVER, &*server, rand::random()))
    .await
}

/// The proof lane: MCP alone.
pub(super) async fn proof(key: Key, controller: Arc<Controller>) -> Again {
    let Some(server) = server(&key, &controller) else {
        return Again::WhenAsked;
    };
    let (context, uid) = (&controller.context, server.uid().unwrap_or_default());
    let Some(probe) = context.lanes.begin_proof(&key, &uid) else {
        return Again::WhenAsked;
    };
    async {
        let begin = Instant::now();
        let result = verify::look(context, &probe).await;
        let took = begin.elapsed();
        context.writer.metrics.probed(took);
        context.lanes.end_proof(&key, &uid, &probe, took, result)
    }
    .instrument(pass_span(kinds::SERVER, &*server, rand::random()))
    .await
}

/// None of an object that is gone, which leaves nothing behind.
fn server(key: &Key, controller: &Controller) -> Option<Arc<McpServer>> {
    let found = controller.context.caches.servers.get(key.0.as_deref(), &key.1);
    if found.is_none() {
        controller.forget(key);
    }
    found
}
