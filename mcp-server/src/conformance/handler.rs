//! What rmcp calls: a request of a session, or one of 2026-07-28, goes in, and the suite's answer comes out.

#![expect(
    deprecated,
    reason = "the suite tests logging and resources/subscribe, which 2026-07-28 deprecates"
)]

use super::changes::{Change, Changes};
use super::request_state::StateKey;
use super::tools::{Call, Catalog};
use super::weather::{self, BuildError, Listed};
use super::{prompts, resources};
use crate::app::App;
use crate::protocol::modern::SUPPORTED;
use crate::protocol::revision::{Era, MODERN, Transport};
use rand::TryRngCore as _;
use rand::rngs::OsRng;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CompleteRequestParams, CompleteResult, CustomRequest,
    CustomResult, ErrorCode, GetPromptRequestParams, GetPromptResponse, Implementation,
    InitializeRequestParams, InitializeResult, ListPromptsResult, ListResourceTemplatesResult,
    ListResourcesResult, ListToolsResult, LoggingLevel, PaginatedRequestParams, ProtocolVersion,
    ReadResourceRequestParams, ReadResourceResponse, ServerCapabilities, ServerConfig, SetLevelRequestParams,
    SubscribeRequestParams, SubscriptionFilter, Tool, UnsubscribeRequestParams,
};
use rmcp::service::{RequestContext, SubscriptionContext};
use rmcp::{ErrorData, RoleServer, ServerHandler};
use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{broadcast, watch};

/// What all sessions share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) app: Arc<App>,
    pub(super) changes: Changes,
    pub(super) state_key: StateKey,
    pub(super) weather: Listed,
    tools: Catalog,
    draining: watch::Receiver<bool>,
}

impl Shared {
    pub(super) fn build(app: Arc<App>, draining: watch::Receiver<bool>) -> Result<Shared, BuildError> {
        let mut key = [0; 32];
        OsRng.try_fill_bytes(&mut key).map_err(|_| BuildError::Random)?;
        let weather = Listed::read(&app)?;
        Ok(Shared {
            tools: Catalog::build(&weather.tools),
            weather,
            app,
            changes: Changes::default(),
            state_key: StateKey::from_bytes(key),
            draining,
        })
    }
}

/// One session, or one request without a session.
#[derive(Debug)]
pub(super) struct Fixture {
    pub(super) shared: Arc<Shared>,
    /// Set by logging/setLevel.
    level: Mutex<Option<LoggingLevel>>,
    subscribed: Mutex<HashSet<String>>,
    /// Changes since the subscription was accepted. rmcp acknowledges it before it calls `listen`, and what happens in
    /// between must not be lost.
    accepted: Mutex<Option<broadcast::Receiver<Change>>>,
}

impl Fixture {
    pub(super) fn of(shared: Arc<Shared>) -> Fixture {
        Fixture {
            shared,
            level: Mutex::default(),
            subscribed: Mutex::default(),
            accepted: Mutex::default(),
        }
    }

    /// Whether this request may be told things at level info: a modern one asks for a level, a session has one.
    pub(super) fn logs_to(&self, context: &RequestContext<RoleServer>) -> bool {
        let level = if era_of(context) == Era::Modern {
            context.meta.log_level()
        } else {
            let level = *self.level.lock().unwrap_or_else(PoisonError::into_inner);
            Some(level.unwrap_or(LoggingLevel::Info))
        };
        matches!(level, Some(LoggingLevel::Debug | LoggingLevel::Info))
    }
}

/// Methods with parameters that must be there.
const BOTH_ERAS: [&str; 4] = [
    "tools/call",
    "prompts/get",
    "resources/read",
    "completion/complete",
];
const HANDSHAKE: [&str; 3] = ["logging/setLevel", "resources/subscribe", "resources/unsubscribe"];

/// How a request wants to be answered.
pub(super) fn era_of(context: &RequestContext<RoleServer>) -> Era {
    match context.protocol_version() {
        Some(version) if version.as_str() >= MODERN => Era::Modern,
        _ => Era::Handshake(Transport::StreamableHttp),
    }
}

fn expect_first_page(request: Option<PaginatedRequestParams>) -> Result<(), ErrorData> {
    match request.and_then(|page| page.cursor) {
        None => Ok(()),
        Some(_) => Err(ErrorData::invalid_params(
            "unknown cursor: this list has one page",
            None,
        )),
    }
}

impl ServerHandler for Fixture {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder()
            .enable_tools()
            .enable_tool_list_changed()
            .enable_prompts()
            .enable_prompts_list_changed()
            .enable_resources()
            .enable_resources_subscribe()
            .enable_completions()
            .enable_logging()
            .build();
        ServerConfig::new(capabilities)
            .with_server_info(Implementation::new(
                "mcp-weather-conformance",
                env!("CARGO_PKG_VERSION"),
            ))
            .with_instructions("The fixture of the MCP conformance suite; it is not for use.")
    }

    /// The same as the gate's, which refuses all others.
    fn supported_protocol_versions(&self) -> Cow<'static, [ProtocolVersion]> {
        let known = ProtocolVersion::KNOWN_VERSIONS.iter();
        known
            .filter(|version| SUPPORTED.contains(&version.as_str()))
            .cloned()
            .collect()
    }

    async fn initialize(
        &self,
        request: InitializeRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<InitializeResult, ErrorData> {
        let mut result = self.negotiate_initialize(&request)?;
        context.peer.set_peer_info(request);
        // Changes are announced to subscriptions/listen, which these revisions do not have.
        if let Some(tools) = &mut result.capabilities.tools {
            tools.list_changed = None;
        }
        if let Some(prompts) = &mut result.capabilities.prompts {
            prompts.list_changed = None;
        }
        Ok(result)
    }

    async fn list_tools(
        &self,
        request: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        expect_first_page(request)?;
        Ok(ListToolsResult::with_all_items(self.shared.tools.all()))
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        self.shared.tools.find(name)
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let call = Call {
            fixture: self,
            request,
            context: &context,
        };
        call.run().await
    }

    async fn list_prompts(
        &self,
        request: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListPromptsResult, ErrorData> {
        expect_first_page(request)?;
        Ok(ListPromptsResult::with_all_items(
            [prompts::list(), self.shared.weather.prompts.clone()].concat(),
        ))
    }

    async fn get_prompt(
        &self,
        request: GetPromptRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<GetPromptResponse, ErrorData> {
        let Shared { app, weather, .. } = &*self.shared;
        if weather.has_prompt(&request.name) {
            let result = weather::ask(app, &context, "prompts/get", &request);
            return result.await.map(GetPromptResponse::Complete);
        }
        prompts::get(&request, &context.client_capabilities().unwrap_or_default())
    }

    async fn complete(
        &self,
        request: CompleteRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CompleteResult, ErrorData> {
        match prompts::complete(&request) {
            Some(completion) => completion.map(CompleteResult::new),
            None => weather::ask(&self.shared.app, &context, "completion/complete", &request).await,
        }
    }

    async fn list_resources(
        &self,
        request: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        expect_first_page(request)?;
        Ok(ListResourcesResult::with_all_items(
            [resources::list(), self.shared.weather.resources.clone()].concat(),
        ))
    }

    async fn list_resource_templates(
        &self,
        request: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        expect_first_page(request)?;
        Ok(ListResourceTemplatesResult::with_all_items(
            [resources::templates(), self.shared.weather.templates.clone()].concat(),
        ))
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        let Shared { app, weather, .. } = &*self.shared;
        if weather.has_resource(&request.uri) {
            let result = weather::ask(app, &context, "resources/read", &request);
            return result.await.map(ReadResourceResponse::Complete);
        }
        resources::read(&request.uri).map(Into::into)
    }

    async fn subscribe(
        &self,
        request: SubscribeRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        resources::expect_listed(&request.uri)?;
        let mut subscribed = self.subscribed.lock().unwrap_or_else(PoisonError::into_inner);
        subscribed.insert(request.uri);
        Ok(())
    }

    async fn unsubscribe(
        &self,
        request: UnsubscribeRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        let mut subscribed = self.subscribed.lock().unwrap_or_else(PoisonError::into_inner);
        subscribed.remove(&request.uri);
        Ok(())
    }

    async fn set_level(
        &self,
        request: SetLevelRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        *self.level.lock().unwrap_or_else(PoisonError::into_inner) = Some(request.level);
        Ok(())
    }

    /// rmcp takes a request whose parameters do not fit its method for one with a method of its own.
    async fn on_custom_request(
        &self,
        request: CustomRequest,
        context: RequestContext<RoleServer>,
    ) -> Result<CustomResult, ErrorData> {
        let method = request.method.as_str();
        let known = if era_of(&context) == Era::Modern {
            BOTH_ERAS.contains(&method) || method == "subscriptions/listen"
        } else {
            BOTH_ERAS.contains(&method) || HANDSHAKE.contains(&method)
        };
        if known {
            let text = format!("the parameters do not fit {method}: see the schema of the revision");
            Err(ErrorData::invalid_params(text, None))
        } else {
            let method: String = method.chars().take(80).collect();
            let text = format!("Method not found: {method}");
            Err(ErrorData::new(ErrorCode::METHOD_NOT_FOUND, text, None))
        }
    }

    fn accepted_subscription_filter(&self, requested: &SubscriptionFilter) -> Option<SubscriptionFilter> {
        let mut accepted = self.accepted.lock().unwrap_or_else(PoisonError::into_inner);
        *accepted = Some(self.shared.changes.subscribe());
        let mut filter = requested.clone();
        if let Some(uris) = &mut filter.resource_subscriptions {
            uris.retain(|uri| resources::expect_listed(uri).is_ok());
        }
        Some(filter)
    }

    async fn listen(&self, context: SubscriptionContext) -> Result<(), ErrorData> {
        let accepted = self
            .accepted
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let mut changes = accepted.unwrap_or_else(|| self.shared.changes.subscribe());
        let mut draining = self.shared.draining.clone();
        loop {
            let change = tokio::select! {
                () = context.cancelled() => return Ok(()),
                _ = draining.wait_for(|draining| *draining) => return Ok(()),
                change = changes.recv() => change,
            };
            // A kind that was not asked for is refused by the sink, a client that is gone ends the loop in time.
            let _ = match change {
                Ok(Change::Tools) => context.sink().notify_tool_list_changed().await,
                Ok(Change::Prompts) => context.sink().notify_prompt_list_changed().await,
                Err(broadcast::error::RecvError::Lagged(_)) => Ok(()),
                Err(broadcast::error::RecvError::Closed) => return Ok(()),
            };
        }
    }
}
