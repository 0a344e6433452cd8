//! Every reason that a condition can have is explained in `docs/operations.md`.
#![expect(
    clippy::panic,
    reason = "clippy knows #[test] functions, but not what they call"
)]

use std::collections::BTreeSet;
use std::path::Path;

const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src");
const GUIDE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/operations.md");
/// Of conditions that are True and need no explanation.
const GOOD: [&str; 5] = ["Accepted", "Available", "Registered", "Verified", "Ready"];

/// The literals in bodies of `fn reason`, and the constants of `mod reasons`.
fn reasons(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.map(|entry| entry.path()).unwrap_or_default();
        if path.is_dir() {
            reasons(&path, found);
        } else if let Ok(text) = std::fs::read_to_string(&path) {
            let constants = bodies(&text, "pub mod reasons {").filter(|line| line.contains("pub const"));
            let answers = bodies(&text, "fn reason(&self)").filter(|line| line.contains("=> \""));
            let literals = constants.chain(answers).filter_map(|line| line.split('"').nth(1));
            found.extend(literals.map(str::to_owned));
        }
    }
}

/// The lines after each `start` up to the brace that closes it, which stands at the indentation of its line.
fn bodies<'a>(text: &'a str, start: &'a str) -> impl Iterator<Item = &'a str> {
    text.match_indices(start).flat_map(|(at, _)| {
        let line = text[..at].rfind('\n').map_or(0, |end| end + 1);
        let indent = text[line..].len() - text[line..].trim_start().len();
        let close = format!("{}}}", " ".repeat(indent));
        text[at..].lines().take_while(move |line| *line != close)
    })
}

#[test]
fn every_reason_is_in_the_guide() {
    let mut found = BTreeSet::new();
    reasons(Path::new(SOURCES), &mut found);
    assert!(found.len() > 30, "the sources were not understood: {found:?}");
    let guide = std::fs::read_to_string(GUIDE).unwrap();
    let missing: Vec<_> = found
        .iter()
        .filter(|reason| !GOOD.contains(&reason.as_str()) && !guide.contains(&format!("`{reason}`")))
        .collect();
    assert!(
        missing.is_empty(),
        "docs/operations.md does not explain {missing:?}"
    );
}
