//! What the test targets with a runner of their own share: which trials are chosen, and how a failure reads.

use libtest_mimic::Arguments;

/// The whole chain, the last cause first: it is what happened, the rest is where. Without a backtrace, which is longer than both.
pub fn explained(error: &anyhow::Error) -> String {
    let causes: Vec<_> = error.chain().map(ToString::to_string).collect();
    causes.into_iter().rev().collect::<Vec<_>>().join("\n")
}

/// As libtest-mimic chooses.
pub fn selected(arguments: &Arguments, name: &str) -> bool {
    let matches = |filter: &String| {
        if arguments.exact {
            name == filter
        } else {
            name.contains(filter.as_str())
        }
    };
    arguments.filter.as_ref().is_none_or(matches) && !arguments.skip.iter().any(matches)
}
