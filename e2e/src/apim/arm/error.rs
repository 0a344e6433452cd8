//! Refusals of the ARM plane, in the shape of Azure's error bodies.
//! In: status, code, message and details. Out: an answer.

use http::StatusCode;
use serde_json::{Value, json};

use crate::apim::answer::{self, Answer};
use crate::apim::kind::Kind;
use crate::apim::policy::check::Flaw;

#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) code: String,
    pub(crate) message: String,
    pub(crate) details: Option<Vec<Flaw>>,
    pub(crate) headers: Vec<(&'static str, String)>,
    /// Errors of ARM itself have no `details` member; those of API Management have one, mostly null.
    from_arm: bool,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, code: &str, message: impl Into<String>) -> Self {
        Self {
            status,
            code: code.into(),
            message: message.into(),
            details: None,
            headers: Vec::new(),
            from_arm: false,
        }
    }

    pub(crate) fn arm(status: StatusCode, code: &str, message: impl Into<String>) -> Self {
        Self {
            from_arm: true,
            ..Self::new(status, code, message)
        }
    }

    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// 400 with what is wrong in which member.
    pub(crate) fn invalid(details: Vec<Flaw>) -> Self {
        let mut refusal = Self::new(
            StatusCode::BAD_REQUEST,
            "ValidationError",
            "One or more fields contain incorrect values:",
        );
        refusal.details = Some(details);
        refusal
    }

    pub(crate) fn member(target: &str, message: impl Into<String>) -> Self {
        Self::invalid(vec![Flaw {
            target: target.into(),
            message: message.into(),
        }])
    }

    pub(crate) fn not_found(kind: Kind) -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "ResourceNotFound",
            format!("{} not found.", kind.noun()),
        )
    }

    pub(crate) fn stale() -> Self {
        Self::new(
            StatusCode::PRECONDITION_FAILED,
            "PreconditionFailed",
            "Resource was modified since last retrieval.",
        )
    }

    pub(crate) fn in_progress() -> Self {
        Self::new(
            StatusCode::CONFLICT,
            "PessimisticConcurrencyConflict",
            "Operation on the API is in progress",
        )
    }

    pub(crate) fn body(&self) -> Value {
        let mut error = json!({"code": self.code, "message": self.message});
        if !self.from_arm {
            error["details"] = match &self.details {
                None => Value::Null,
                Some(details) => details
                    .iter()
                    .map(|flaw| json!({"code": "ValidationError", "target": flaw.target, "message": flaw.message}))
                    .collect(),
            };
        }
        json!({"error": error})
    }

    pub(crate) fn into_answer(self) -> Answer {
        let mut answer = answer::json(self.status, &self.body());
        for (name, value) in &self.headers {
            answer::set(&mut answer, name, value);
        }
        answer
    }
}
