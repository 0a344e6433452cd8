//! The documents: every reason that a condition can have is explained in `docs/operations.md`, and every link between
//! files leads somewhere.
#![expect(
    clippy::panic,
    reason = "clippy knows #[test] functions, but not what they call"
)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

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

/// Markdown files of the repository, without what tools put there.
fn documents(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = entry.file_name();
        let skipped = name == "target" || name == "node_modules" || name.as_encoded_bytes().starts_with(b".");
        if path.is_dir() && !skipped {
            documents(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "md") {
            found.push(path);
        }
    }
}

#[test]
fn links_lead_somewhere() {
    let mut found = Vec::new();
    documents(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/..")), &mut found);
    assert!(found.len() > 10, "no documents: {found:?}");
    let mut broken = Vec::new();
    for document in &found {
        let text = std::fs::read_to_string(document).unwrap_or_default();
        for (start, _) in text.match_indices("](") {
            let link = text[start + 2..].split([')', ' ']).next().unwrap_or_default();
            let (file, _anchor) = link.split_once('#').unwrap_or((link, ""));
            let elsewhere = file.is_empty() || file.contains("://") || file.starts_with("mailto:");
            if !elsewhere && !document.with_file_name(file).exists() {
                broken.push(format!("{}: {link}", document.display()));
            }
        }
    }
    assert!(
        broken.is_empty(),
        "these links lead nowhere:\n{}",
        broken.join("\n")
    );
}
