//! The summary: what a person sees at the end, worth a screenshot.
//!
//! In: the outcome and whether to use bold and colours. Out: text.

use std::fmt::Write;
use std::io::IsTerminal;
use std::path::Path;

use super::check::is_ours;
use super::outcome::{Document, Outcome};
use super::{NAMESPACE, SECRET};
use crate::install::GATEWAY_HOST;

/// Lines of a tool's answer that are shown.
const ANSWER_LINES: usize = 4;
const WIDTH: usize = 112;

/// With colours for a terminal, without them for everything else.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Style {
    colours: bool,
}

impl Style {
    pub(crate) fn of_stdout() -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self {
            colours: wanted && std::io::stdout().is_terminal(),
        }
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.colours {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    fn heading(self, text: &str) -> String {
        self.paint("1;36", text)
    }

    fn command(self, text: &str) -> String {
        self.paint("1", text)
    }

    fn good(self, text: &str) -> String {
        self.paint("1;32", text)
    }

    fn quiet(self, text: &str) -> String {
        self.paint("2", text)
    }
}

/// Commands that work as they are in a person's own shell.
pub(crate) struct Commands {
    pub(crate) environment: String,
    pub(crate) key: String,
    pub(crate) curl: String,
    inspector: String,
}

pub(crate) fn commands(outcome: &Outcome) -> Commands {
    let (authority, port) = (outcome.authority.display(), outcome.gateway_port);
    let url = &outcome.calls.url;
    let local = url.replace(GATEWAY_HOST, "localhost");
    let folder = outcome
        .kubectl
        .parent()
        .unwrap_or(Path::new("/usr/bin"))
        .display();
    let key_header = r#""Ocp-Apim-Subscription-Key: $KEY""#;
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"get_alerts","arguments":{"state":"WA"}}}"#;
    Commands {
        environment: format!(
            "export KUBECONFIG={}\nexport PATH={folder}:$PATH",
            outcome.kubeconfig.display()
        ),
        key: format!(
            "KEY=$(kubectl get secret {SECRET} -n {NAMESPACE} -o jsonpath='{{.data.APIM_SUBSCRIPTION_KEY}}' | base64 -d)"
        ),
        curl: format!(
            "curl -sS --fail-with-body -w '\\n' {url} \\\n  \
             --resolve {GATEWAY_HOST}:{port}:127.0.0.1 -H 'MCP-Protocol-Version: 2025-11-25' \\\n  \
             --cacert {authority} -H {key_header} \\\n  \
             -H 'Content-Type: application/json' -H 'Accept: application/json, text/event-stream' \\\n  \
             -d '{body}'"
        ),
        inspector: format!(
            "NODE_EXTRA_CA_CERTS={authority} \\\n  \
             npx -y -p node@22 -p @modelcontextprotocol/inspector@2.12.0 mcp-inspector --web \\\n  \
             --transport http --server-url {local} \\\n  \
             --protocol-era auto --header {key_header}"
        ),
    }
}

pub(crate) fn text(outcome: &Outcome, style: Style) -> String {
    let mut text = String::from("\n");
    headline(&mut text, outcome, style);
    section(
        &mut text,
        style,
        "In the cluster",
        &[
            style.command("$ kubectl get mcps -n tools"),
            outcome.servers_shown.trim_end().to_owned(),
            String::new(),
            style.command("$ kubectl get pods,services -n tools -o wide"),
            outcome.children_shown.trim_end().to_owned(),
            style.quiet("# this address accepts the gateway alone; agents come in by the URL above"),
        ],
    );
    let documents = documents(outcome);
    section(
        &mut text,
        style,
        "In API Management (the stand-in), service contoso",
        &documents,
    );
    section(
        &mut text,
        style,
        "An agent's calls through the gateway",
        &calls(outcome, style),
    );
    let commands = commands(outcome);
    section(
        &mut text,
        style,
        "Try it, in another terminal",
        &[
            commands.environment,
            style.quiet("# the key that McpAccess tools/agents wrote into a Secret"),
            commands.key,
            style.quiet("# a tool call with curl"),
            commands.curl,
            style.quiet("# MCP Inspector in the browser"),
            commands.inspector,
        ],
    );
    text
}

fn headline(text: &mut String, outcome: &Outcome, style: Style) {
    let took = &outcome.took;
    let _ = writeln!(
        text,
        "{}",
        style.good("mcp-fleet: one McpServer applied, and agents can call its tools")
    );
    let _ = writeln!(
        text,
        "{}",
        style.quiet(&format!(
            "cluster {:.0} s, operator and stand-ins {:.0} s, from apply to Ready {:.0} s, everything {:.0} s",
            took.cluster.as_secs_f64(),
            took.install.as_secs_f64(),
            took.ready.as_secs_f64(),
            took.all.as_secs_f64()
        ))
    );
}

fn section(text: &mut String, style: Style, heading: &str, blocks: &[String]) {
    let _ = writeln!(
        text,
        "\n{}",
        style.heading(
            &format!("── {heading} ")
                .chars()
                .chain(std::iter::repeat('─'))
                .take(WIDTH)
                .collect::<String>()
        )
    );
    for line in blocks.iter().flat_map(|block| block.split('\n')) {
        let _ = writeln!(text, "{line}");
    }
}

/// One line a document, those of one API together.
fn documents(outcome: &Outcome) -> Vec<String> {
    let mut lines = Vec::new();
    let ours = |kind: &'static str| {
        outcome
            .documents
            .iter()
            .filter(move |document| is_ours(&document.path, kind))
    };
    for backend in ours("backends") {
        lines.push(row("backend", backend, &member(backend, "url")));
    }
    for api in ours("apis") {
        lines.push(row("API", api, &format!("path /{}", member(api, "path"))));
        let operations = format!("{}/operations/", api.path);
        let of_api = outcome.documents.iter().filter(|document| {
            document.path.starts_with(&operations) && !document.path[operations.len()..].contains('/')
        });
        for operation in of_api {
            lines.push(row(
                "  operation",
                operation,
                &format!(
                    "{} {}",
                    member(operation, "method"),
                    member(operation, "urlTemplate")
                ),
            ));
        }
        if outcome
            .documents
            .iter()
            .any(|document| document.path == format!("{}/policies/policy", api.path))
        {
            lines.push(format!(
                "{:<14}{:<42}{}",
                "  policy", "policy", "rate limit, key removed, unbuffered, to the backend"
            ));
        }
    }
    for product in ours("products") {
        lines.push(row("product", product, &member(product, "state")));
    }
    for subscription in ours("subscriptions") {
        let scope = member(subscription, "scope");
        let short: Vec<_> = scope.rsplitn(3, '/').collect();
        let scope = short.iter().take(2).rev().copied().collect::<Vec<_>>().join("/");
        lines.push(row("subscription", subscription, &format!("for {scope}")));
    }
    lines
}

fn row(kind: &str, document: &Document, about: &str) -> String {
    let name = document.path.rsplit('/').next().unwrap_or_default();
    format!("{kind:<14}{name:<42}{about}")
}

fn member(document: &Document, name: &str) -> String {
    document.properties[name].as_str().unwrap_or_default().to_owned()
}

fn calls(outcome: &Outcome, style: Style) -> Vec<String> {
    let calls = &outcome.calls;
    let mut lines = vec![
        format!("{}  {}", style.command("URL"), calls.url),
        format!("{}  {}", style.command("tools/list"), calls.tools.join(", ")),
    ];
    for (call, answer) in [
        ("get_alerts(state=WA)", &calls.alerts),
        (
            "get_forecast(latitude=47.603, longitude=-122.33)",
            &calls.forecast,
        ),
    ] {
        lines.push(style.command(call));
        let answered: Vec<_> = answer
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .collect();
        let shown = answered.iter().take(ANSWER_LINES);
        lines.extend(shown.map(|line| format!("  {}", shortened(line, WIDTH - 2))));
        if answered.len() > ANSWER_LINES {
            lines.push(style.quiet(&format!("  … {} more lines", answered.len() - ANSWER_LINES)));
        }
    }
    lines.push(format!("{}  {}", style.command("without key"), calls.without_key));
    lines
}

/// At most `width` characters, cut between words, and visibly so.
fn shortened(line: &str, width: usize) -> String {
    if line.chars().count() <= width {
        return line.to_owned();
    }
    let kept: String = line.chars().take(width - 1).collect();
    let end = kept.rfind(' ').unwrap_or(kept.len());
    format!("{} …", kept[..end].trim_end_matches(',').trim_end())
}
