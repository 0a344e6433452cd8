//! One call on the ARM plane, and what every verb needs of it: conditions, limits, changes, answers, long operations.
//! In: the request's parts and the locked state. Out: checks that refuse, and answers.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::StatusCode;
use serde_json::{Map, Value};

use super::contract::{Frame, View, Wanted, prepare, show};
use super::error::Refusal;
use crate::apim::answer::{self, Answer};
use crate::apim::kind::Kind;
use crate::apim::query::Query;
use crate::apim::state::{Shared, State};
use crate::apim::store::{Change, Document};
use crate::apim::switches::{AsyncHeaders, MissingIfMatch};

pub(super) struct Call<'a> {
    pub(super) shared: &'a Shared,
    pub(super) state: &'a mut State,
    pub(super) now: Instant,
    pub(super) query: Query,
    pub(super) if_match: Option<String>,
    pub(super) body: &'a Bytes,
    /// The long operation that this call starts fails with this code and message.
    pub(super) fail: Option<(String, String)>,
}

impl Call<'_> {
    pub(super) fn service_url(&self) -> String {
        let config = &self.shared.config;
        format!("{}{}", config.arm_url, config.service_path())
    }

    pub(super) fn apply(&mut self, change: Change) {
        let delay = self.state.gateway_delay();
        self.state.store.apply(change, self.now, delay);
    }

    pub(super) fn existing(&self, id: &str) -> Option<Document> {
        self.state
            .store
            .world()
            .get(id)
            .map(|document| (**document).clone())
    }

    /// 404 in the name of what is missing above this entity or collection.
    pub(super) fn parent_exists(&self, kind: Kind, id: &str) -> Result<(), Refusal> {
        let parts: Vec<&str> = id.split('/').collect();
        let world = self.state.store.world();
        for depth in (2..parts.len()).step_by(2) {
            if world.get(&parts[..depth].join("/")).is_none() {
                return Err(Refusal::not_found(
                    match parts[depth - 2].to_lowercase().as_str() {
                        "apis" => Kind::Api,
                        "products" => Kind::Product,
                        "operations" => Kind::Operation,
                        _ => kind,
                    },
                ));
            }
        }
        Ok(())
    }

    /// 409 while an operation on the API, or on the entity itself, is in progress.
    pub(super) fn not_busy(&self, id: &str) -> Result<(), Refusal> {
        let parts: Vec<&str> = id.split('/').collect();
        let root = parts[..parts.len().min(2)].join("/");
        if self.state.store.busy(id) || (root.starts_with("apis/") && self.state.store.busy(&root)) {
            return Err(Refusal::in_progress());
        }
        Ok(())
    }

    pub(super) fn condition(
        &self,
        existing: Option<&Document>,
        missing: MissingIfMatch,
    ) -> Result<(), Refusal> {
        match (self.if_match.as_deref(), existing) {
            (Some("*"), _) | (None, None) => Ok(()),
            (Some(wanted), Some(document)) => {
                let wanted = wanted.trim_start_matches("W/").trim_matches('"');
                if wanted == document.etag_text() {
                    Ok(())
                } else {
                    Err(Refusal::stale())
                }
            }
            (Some(_), None) => Err(Refusal::stale()),
            (None, Some(_)) => match missing {
                MissingIfMatch::Allowed => Ok(()),
                MissingIfMatch::PreconditionFailed => Err(Refusal::new(
                    StatusCode::PRECONDITION_FAILED,
                    "PreconditionFailed",
                    "If-Match header is required.",
                )),
                MissingIfMatch::BadRequest => Err(Refusal::new(
                    StatusCode::BAD_REQUEST,
                    "MissingRequiredHeader",
                    "The required header If-Match is missing.",
                )),
            },
        }
    }

    pub(super) fn properties(&self) -> Result<Map<String, Value>, Refusal> {
        let body: Value = serde_json::from_slice(self.body)
            .map_err(|error| Refusal::member("representation", format!("Invalid JSON: {error}")))?;
        match body.get("properties") {
            Some(Value::Object(properties)) => Ok(properties.clone()),
            _ => Err(Refusal::member(
                "properties",
                "The member 'properties' is required.",
            )),
        }
    }

    pub(super) fn check_limits(
        &self,
        kind: Kind,
        id: &str,
        sent: &Map<String, Value>,
        partial: bool,
    ) -> Result<(), Refusal> {
        let name = id.rsplit('/').next().unwrap_or_default();
        let mut flaws = self.shared.limits.name(kind, name);
        // Later versions have members that the table does not know.
        let known_version = self
            .query
            .get("api-version")
            .is_some_and(|version| version <= "2024-05-01");
        let strict = known_version && self.state.switches.refuse_unknown_members;
        flaws.extend(self.shared.limits.body(kind, sent, partial, strict));
        if let (Some(schemas), false) = (&self.shared.schemas, partial)
            && flaws.is_empty()
        {
            flaws.extend(schemas.check(kind, sent));
        }
        if flaws.is_empty() {
            Ok(())
        } else {
            Err(Refusal::invalid(flaws))
        }
    }

    pub(super) fn prepare(
        &self,
        kind: Kind,
        id: &str,
        properties: Map<String, Value>,
        existing: Option<&Document>,
    ) -> Result<Document, Refusal> {
        prepare(Wanted {
            world: self.state.store.world(),
            switches: &self.state.switches,
            facts: &self.shared.facts,
            service: &self.shared.config.service_path(),
            kind,
            id,
            properties,
            existing,
        })
    }

    pub(super) fn shown(&self, id: &str, view: View) -> Result<(Value, String), Refusal> {
        let document = self.existing(id).ok_or_else(|| {
            Refusal::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "InternalServerError",
                format!("{id} was lost"),
            )
        })?;
        let frame = Frame {
            world: self.state.store.world(),
            service: &self.shared.config.service_path(),
            view,
            busy: self.state.store.busy(id),
            raw_policy: self
                .query
                .get("format")
                .is_some_and(|format| format.starts_with("rawxml")),
        };
        Ok((show(&document, &frame), format!("\"{}\"", document.etag_text())))
    }

    pub(super) fn answer(&self, status: StatusCode, id: &str, view: View) -> Result<Answer, Refusal> {
        let (body, etag) = self.shown(id, view)?;
        let mut answer = answer::indented(status, &body);
        answer::set(&mut answer, "etag", &etag);
        Ok(answer)
    }

    /// Starts a long operation and adds its polling headers to the answer.
    pub(super) fn start(&mut self, mut answer: Answer, id: &str, code: u16, change: Change) -> Answer {
        let due = self.now + Duration::from_millis(self.state.switches.async_millis);
        let fail = self.fail.take();
        let operation = self.state.store.start(id, code, due, change, fail);
        let version = self.query.get("api-version").unwrap_or_default();
        let base = self.service_url();
        let headers = self.state.switches.async_headers;
        if headers != AsyncHeaders::AzureAsyncOperation {
            let url = format!("{base}/{id}?api-version={version}&asyncId={operation}&asyncCode={code}");
            answer::set(&mut answer, "location", &url);
        }
        if headers != AsyncHeaders::Location {
            let url = format!("{base}/tenant/operationResults/{operation}?api-version={version}");
            answer::set(&mut answer, "azure-asyncoperation", &url);
        }
        self.retry_after(&mut answer);
        answer
    }

    pub(super) fn retry_after(&self, answer: &mut Answer) {
        if let Some(seconds) = self.state.switches.async_retry_after {
            answer::set(answer, "retry-after", &seconds.to_string());
        }
    }
}
