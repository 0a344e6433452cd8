//! One table of settings: what the binary takes is what mcp-server/README.md and .env.example say. Both are written by this
//! test when it is asked to, and it fails when they are stale.

use clap::{Arg, CommandFactory as _};
use mcp_weather::config::Config;
use std::fmt::Write as _;
use std::path::PathBuf;

const WRITE: &str = "MCP_WEATHER_WRITE_DOCS";
const BEGIN: &str = "<!-- settings: written by a test, see tests/it/settings.rs -->\n";
const END: &str = "<!-- end of settings -->\n";

struct Setting {
    variable: String,
    flag: String,
    default: String,
    what: String,
}

fn settings() -> Vec<Setting> {
    let command = Config::command();
    let described = |argument: &Arg| {
        let default = argument
            .get_default_values()
            .iter()
            .map(|value| value.to_str().unwrap());
        Some(Setting {
            variable: argument.get_env()?.to_str().unwrap().to_owned(),
            flag: format!("--{}", argument.get_long().unwrap()),
            // The next release must not need new docs for it.
            default: default
                .collect::<String>()
                .replace(env!("CARGO_PKG_VERSION"), "VERSION"),
            what: argument.get_help().unwrap().to_string(),
        })
    };
    command.get_arguments().filter_map(described).collect()
}

fn is_current(path: &str, wanted: impl FnOnce(&str) -> String) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path);
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    let wanted = wanted(&found);
    if std::env::var_os(WRITE).is_some() {
        std::fs::write(&path, &wanted).unwrap();
    }
    assert!(
        found == wanted || std::env::var_os(WRITE).is_some(),
        "{} is stale: run `{WRITE}=1 cargo test -p mcp-weather settings` and commit the result",
        path.display()
    );
}

#[test]
fn the_table_has_every_setting() {
    let mut table = "| variable | flag | default | what |\n|---|---|---|---|\n".to_owned();
    for Setting {
        variable,
        flag,
        default,
        what,
    } in settings()
    {
        assert!(
            !what.contains('|') && !default.contains('|'),
            "{variable} would break the table"
        );
        writeln!(table, "| `{variable}` | `{flag}` | {default} | {what} |").unwrap();
    }
    is_current("README.md", |readme| {
        let (before, rest) = readme
            .split_once(BEGIN)
            .expect("README.md has lost its table of settings");
        let (_, after) = rest.split_once(END).expect("the table of settings has no end");
        format!("{before}{BEGIN}{table}{END}{after}")
    });
}

#[test]
fn the_example_of_an_environment_has_every_setting() {
    let mut example = "# Every setting of mcp-weather with its default. Copy to .env, take away the # of what you change.\n".to_owned();
    for Setting {
        variable,
        default,
        what,
        ..
    } in settings()
    {
        // Nobody is to send the word that stands for the version.
        let value = if default.contains("VERSION") { "" } else { &default };
        write!(example, "\n# {what}\n#{variable}={value}\n").unwrap();
    }
    is_current(".env.example", |_| example);
}

#[test]
fn flags_are_named_by_what_they_are() {
    for Setting { variable, flag, .. } in settings() {
        assert!(
            flag.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'),
            "{flag}"
        );
        assert!(
            variable
                .bytes()
                .all(|byte| byte.is_ascii_uppercase() || byte == b'_'),
            "{variable}"
        );
    }
}
