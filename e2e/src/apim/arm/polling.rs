//! Polling of long operations: by the Location of the first answer, or by Azure-AsyncOperation.
//! In: the operation's id. Out: what Azure says of it at this moment.

use http::StatusCode;
use serde_json::json;

use super::call::Call;
use super::contract::View;
use super::error::Refusal;
use crate::apim::answer::{self, Answer};
use crate::apim::store::Progress;

/// Recorded: 202 while running, then the code that `asyncCode` names.
pub(super) fn location(call: &mut Call<'_>, id: &str) -> Result<Answer, Refusal> {
    let gone = || Refusal::new(StatusCode::NOT_FOUND, "ResourceNotFound", "Operation not found.");
    let operation = call.state.store.operation(id).ok_or_else(gone)?;
    let (code, resource) = (operation.code, operation.resource.clone());
    match operation.progress.clone() {
        Progress::Running => {
            let mut answer = answer::empty(StatusCode::ACCEPTED);
            let url = format!(
                "{}/{resource}?api-version={}&asyncId={id}&asyncCode={code}",
                call.service_url(),
                call.query.get("api-version").unwrap_or_default()
            );
            answer::set(&mut answer, "location", &url);
            call.retry_after(&mut answer);
            Ok(answer)
        }
        Progress::Failed { code, message } => Err(Refusal::new(StatusCode::BAD_REQUEST, &code, message)),
        Progress::Succeeded if call.existing(&resource).is_none() => Ok(answer::empty(
            StatusCode::from_u16(code).unwrap_or(StatusCode::NO_CONTENT),
        )),
        Progress::Succeeded => call.answer(
            StatusCode::from_u16(code).unwrap_or(StatusCode::OK),
            &resource,
            View::Get,
        ),
    }
}

pub(super) fn result(call: &mut Call<'_>, id: &str) -> Result<Answer, Refusal> {
    let gone = || Refusal::new(StatusCode::NOT_FOUND, "ResourceNotFound", "Operation not found.");
    let body = match &call.state.store.operation(id).ok_or_else(gone)?.progress {
        Progress::Running => json!({"status": "InProgress"}),
        Progress::Succeeded => json!({"status": "Succeeded"}),
        Progress::Failed { code, message } => {
            json!({"status": "Failed", "error": {"code": code, "message": message, "details": null}})
        }
    };
    let mut answer = answer::json(StatusCode::OK, &body);
    if body["status"] == "InProgress" {
        call.retry_after(&mut answer);
    }
    Ok(answer)
}
