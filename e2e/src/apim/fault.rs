//! Faults that tests ask for: a rule matches requests and says what happens to the nth of them.
//! In: rules and each request's method and path. Out: at most one action for a request.

use std::collections::BTreeMap;

use regex::Regex;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Which of the stand-in's planes a rule looks at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Plane {
    #[default]
    Arm,
    Token,
    Gateway,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Action {
    /// Answer this, and do nothing.
    Answer {
        status: u16,
        #[serde(default)]
        headers: BTreeMap<String, String>,
        #[serde(default)]
        body: Option<Value>,
    },
    /// Never answer.
    Hang,
    /// End the connection before anything is done.
    CutBefore,
    /// Do it, then end the connection: the answer is lost.
    CutAfter,
    /// Wait this long, then handle the request as usual.
    Slow { millis: u64 },
    /// The long operation that this request starts fails with this error.
    FailOperation { code: String, message: String },
}

/// One rule. Counted per rule: the first `skip` matches pass, the next `count` meet the action.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Fault {
    #[serde(default)]
    pub plane: Plane,
    /// Regular expression on the method; any when absent.
    #[serde(default)]
    pub method: Option<String>,
    /// Regular expression on path and query; any when absent.
    #[serde(default)]
    pub path: Option<String>,
    #[serde(default)]
    pub skip: u64,
    /// For ever when absent.
    #[serde(default)]
    pub count: Option<u64>,
    pub action: Action,
}

#[derive(Debug)]
struct Rule {
    fault: Fault,
    method: Option<Regex>,
    path: Option<Regex>,
    seen: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Faults(Vec<Rule>);

impl Faults {
    pub(crate) fn add(&mut self, fault: Fault) -> Result<(), regex::Error> {
        let compile = |text: &Option<String>| text.as_deref().map(Regex::new).transpose();
        let (method, path) = (compile(&fault.method)?, compile(&fault.path)?);
        self.0.push(Rule {
            fault,
            method,
            path,
            seen: 0,
        });
        Ok(())
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// The action for this request: that of the first rule which matches and is due. Every matching rule counts it.
    pub(crate) fn next(&mut self, plane: Plane, method: &str, path: &str) -> Option<Action> {
        let mut action = None;
        for rule in &mut self.0 {
            let matches = rule.fault.plane == plane
                && rule.method.as_ref().is_none_or(|regex| regex.is_match(method))
                && rule.path.as_ref().is_none_or(|regex| regex.is_match(path));
            if !matches {
                continue;
            }
            rule.seen += 1;
            let due = rule.seen > rule.fault.skip
                && rule
                    .fault
                    .count
                    .is_none_or(|count| rule.seen <= rule.fault.skip + count);
            if due && action.is_none() {
                action = Some(rule.fault.action.clone());
            }
        }
        action
    }
}
