//! A call that ends with an error of the gateway.
//! In: status and message. Out: the answer `{"statusCode", "message"}`.

use http::StatusCode;
use serde_json::json;

use crate::apim::answer::{self, Answer};
use crate::apim::policy::expression::NotUnderstood;

#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(super) status: u16,
    pub(super) message: String,
    pub(super) headers: Vec<(String, String)>,
}

impl Failure {
    pub(super) fn new(status: u16, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
            headers: Vec::new(),
        }
    }

    pub(super) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// A valid policy that the stand-in does not run: said loudly, never passed over.
    pub(super) fn not_run(what: &str) -> Self {
        tracing::error!(what, "the stand-in cannot run a policy");
        Self::new(500, format!("The stand-in does not run {what}."))
    }

    pub(super) fn answer(&self) -> Answer {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut answer = answer::json(
            status,
            &json!({"statusCode": status.as_u16(), "message": self.message}),
        );
        for (name, value) in &self.headers {
            let name = http::HeaderName::from_bytes(name.as_bytes());
            if let (Ok(name), Ok(value)) = (name, http::HeaderValue::from_str(value)) {
                answer.headers_mut().insert(name, value);
            }
        }
        answer
    }
}

impl From<NotUnderstood> for Failure {
    fn from(error: NotUnderstood) -> Self {
        Failure::not_run(&error.to_string())
    }
}
