//! Tools that ask in rounds (MRTR): a call goes in; while something is unanswered the questions come out, then the result.

use super::super::questions::{
    CAPITAL, CONFIRM, GREETING, Question, ROOTS, STEP_1, STEP_2, USER_NAME, answers,
};
use super::super::request_state::Progress;
use super::super::weather::internal;
use super::{Call, said};
use rmcp::ErrorData;
use rmcp::model::{CallToolResponse, InputRequests, InputRequiredResult, InputResponses};
use std::time::SystemTime;

/// How a tool asks.
#[derive(Clone, Copy)]
struct Plan {
    /// Questions, round by round.
    rounds: &'static [&'static [Question]],
    /// Whether the client has to send back where the call is.
    keeps_state: bool,
    /// Before the answers in the result.
    before: &'static str,
}

const fn stateless(rounds: &'static [&'static [Question]], before: &'static str) -> Plan {
    Plan {
        rounds,
        keeps_state: false,
        before,
    }
}

const fn stateful(rounds: &'static [&'static [Question]], before: &'static str) -> Plan {
    Plan {
        rounds,
        keeps_state: true,
        before,
    }
}

/// Asks only what the client can answer; all others insist.
const ADAPTS: &str = "test_input_required_result_capabilities";

const PLANS: [(&str, Plan); 9] = [
    (
        "test_input_required_result_elicitation",
        stateless(&[&[USER_NAME]], "Hello, "),
    ),
    (
        "test_input_required_result_sampling",
        stateless(&[&[CAPITAL]], "The model says: "),
    ),
    (
        "test_input_required_result_list_roots",
        stateless(&[&[ROOTS]], "Roots: "),
    ),
    (
        "test_input_required_result_request_state",
        stateful(&[&[CONFIRM]], "state-ok: "),
    ),
    (
        "test_input_required_result_tampered_state",
        stateful(&[&[CONFIRM]], "Confirmed: "),
    ),
    (
        "test_input_required_result_multiple_inputs",
        stateful(&[&[USER_NAME, GREETING, ROOTS]], "All inputs: "),
    ),
    (
        "test_input_required_result_multi_round",
        stateful(&[&[STEP_1], &[STEP_2]], "Both steps: "),
    ),
    (ADAPTS, stateless(&[&[USER_NAME, CAPITAL]], "Inputs: ")),
    (
        "test_streaming_elicitation",
        stateless(&[&[CONFIRM]], "Confirmed: "),
    ),
];

/// Answer a call of one of these tools; any other name is that of no tool at all.
pub(super) fn call(call: &Call<'_>) -> Result<CallToolResponse, ErrorData> {
    let tool = call.request.name.as_ref();
    let Some((_, plan)) = PLANS.iter().find(|(name, _)| *name == tool) else {
        let name: String = tool.chars().take(80).collect();
        return Err(ErrorData::invalid_params(format!("Unknown tool: {name}"), None));
    };
    let (mut progress, mut responses) = resume(call, plan)?;
    let capabilities = call.context.client_capabilities().unwrap_or_default();
    while let Some(questions) = plan.rounds.get(usize::from(progress.round)) {
        let mut questions = questions.to_vec();
        if tool == ADAPTS {
            questions.retain(|question| question.suits(&capabilities));
        }
        match answers(&questions, responses.take(), &capabilities)? {
            Ok(answers) => progress.answers.extend(answers),
            Err(open) => return ask(call, open, plan.keeps_state.then_some(progress)),
        }
        progress.round += 1;
    }
    Ok(said(format!("{}{}", plan.before, progress.answers.join("; "))).into())
}

/// Where the call is, and what came for it.
fn resume<'c>(call: &'c Call<'_>, plan: &Plan) -> Result<(Progress, Option<&'c InputResponses>), ErrorData> {
    let request = &call.request;
    let start = Progress {
        tool: request.name.to_string(),
        round: 0,
        answers: Vec::new(),
    };
    match &request.request_state {
        _ if !plan.keeps_state => Ok((start, request.input_responses.as_ref())),
        // Without its state there is no telling which round was answered, so the first is asked again.
        None => Ok((start, None)),
        Some(sealed) => {
            let key = &call.fixture.shared.state_key;
            let progress = key.open(sealed, &request.name, SystemTime::now());
            let text = "requestState is not one that this tool gave out, or too old: call without it";
            let progress = progress.ok_or_else(|| ErrorData::invalid_params(text, None))?;
            Ok((progress, request.input_responses.as_ref()))
        }
    }
}

fn ask(call: &Call<'_>, open: InputRequests, at: Option<Progress>) -> Result<CallToolResponse, ErrorData> {
    let key = &call.fixture.shared.state_key;
    let sealed = at.map(|at| key.seal(at, SystemTime::now())).transpose();
    let sealed = sealed.map_err(|error| internal(&error))?;
    Ok(InputRequiredResult::new(Some(open), sealed).into())
}
