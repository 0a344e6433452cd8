//! One record goes in, one line of JSON is appended. The words are those of mcp-server/README.md, Audit.

use super::{Ending, Origin, Record, Shown};
use crate::metrics::Outcome;
use crate::protocol::answer::push_string;
use std::io::Write as _;
use std::time::{Duration, SystemTime};

/// A call.
pub(super) fn call(out: &mut Vec<u8>, record: &Record) {
    let Record {
        at,
        took,
        tool,
        era,
        shown,
        ending,
        origin,
    } = record;
    begin(out, "tool_call", *at);
    out.extend_from_slice(br#","tool":"#);
    push_string(out, tool.name());
    out.extend_from_slice(br#","arguments":"#);
    arguments(out, *shown);
    out.extend_from_slice(br#","era":"#);
    push_string(out, era.label());
    who(out, origin);
    result(out, *ending);
    // Writing to a Vec cannot fail.
    let _ = writeln!(out, r#","seconds":{:.6}}}"#, took.as_secs_f64());
}

/// The first line of a process.
pub(super) fn opened(out: &mut Vec<u8>, at: SystemTime) {
    begin(out, "opened", at);
    let _ = writeln!(out, r#","version":"{}"}}"#, env!("CARGO_PKG_VERSION"));
}

/// So many records are missing here.
pub(super) fn lost(out: &mut Vec<u8>, at: SystemTime, records: u64) {
    begin(out, "lost", at);
    let _ = writeln!(out, r#","records":{records}}}"#);
}

/// The last line of a process that was stopped in order; calls that still ran are cut off and have no line.
pub(super) fn closed(out: &mut Vec<u8>, at: SystemTime, unfinished: i64) {
    begin(out, "closed", at);
    let _ = writeln!(out, r#","unfinished":{unfinished}}}"#);
}

fn begin(out: &mut Vec<u8>, kind: &str, at: SystemTime) {
    let since = at
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or(Duration::ZERO);
    let seconds = i64::try_from(since.as_secs()).unwrap_or_default();
    let nanoseconds = i32::try_from(since.subsec_micros() * 1000).unwrap_or_default();
    let time = jiff::Timestamp::new(seconds, nanoseconds).unwrap_or_default();
    let _ = write!(out, r#"{{"audit":"{kind}","time":"{time:.6}""#);
}

fn arguments(out: &mut Vec<u8>, shown: Shown) {
    match shown {
        Shown::State(state) => {
            out.extend_from_slice(br#"{"state":"#);
            push_string(out, state.code());
            out.push(b'}');
        }
        Shown::Near(point) => {
            let (latitude, longitude) = (rough(point.latitude()), rough(point.longitude()));
            let _ = write!(out, r#"{{"latitude":{latitude:.1},"longitude":{longitude:.1}}}"#);
        }
        Shown::Nothing => out.extend_from_slice(b"null"),
    }
}

/// To one decimal, and never a negative zero.
fn rough(degrees: f64) -> f64 {
    (degrees * 10.0).round() / 10.0 + 0.0
}

fn who(out: &mut Vec<u8>, origin: &Origin) {
    out.extend_from_slice(br#","caller":"#);
    if let Some(caller) = &origin.caller {
        let word: &[u8] = if caller.is_asserted() {
            br#"{"asserted":"#
        } else {
            br#"{"claimed":"#
        };
        out.extend_from_slice(word);
        push_string(out, caller.as_str());
        out.push(b'}');
    } else {
        out.extend_from_slice(b"null");
    }
    if let Some(session) = &origin.session {
        let _ = write!(out, r#","session":"{session}""#);
    }
}

fn result(out: &mut Vec<u8>, ending: Ending) {
    let word = match ending {
        Ending::Answered(Outcome::Ok) => "ok",
        Ending::Answered(Outcome::ToolError) => "tool_error",
        Ending::Answered(Outcome::Refused) => "refused",
        Ending::Limited(_) | Ending::Answered(Outcome::Limited) => "limited",
        Ending::Cancelled | Ending::Answered(Outcome::Cancelled) => "cancelled",
    };
    out.extend_from_slice(br#","result":"#);
    push_string(out, word);
    if let Ending::Limited(limit) = ending {
        out.extend_from_slice(br#","limit":"#);
        push_string(out, limit);
    }
}
