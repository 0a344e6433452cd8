//! Servers that mean harm, or are just odd: each probe ends early, with a clear error, and holds little meanwhile.
//!
//! They run on threads of their own, so that what the probe allocates on this one is its own, HTTP client included.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::fixture::{names, report, sse, streamable, target};
use crate::mcp::*;

const KIB: usize = 1024;
/// What one probe may hold at a time: an answer, the buffers of a connection, and what is made of them.
const HELD: u64 = 1_536 * 1024;

/// A request as a server reads it.
struct Asked {
    message: Value,
}

impl Asked {
    fn method(&self) -> &str {
        self.message["method"].as_str().unwrap_or_default()
    }

    fn id(&self) -> u64 {
        self.message["id"].as_u64().unwrap_or_default()
    }
}

/// Answers each connection with what `answer` writes, until the process ends.
fn serve(answer: impl Fn(&Asked, &mut TcpStream) -> std::io::Result<()> + Send + Sync + 'static) -> Url {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base = Url::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    let answer = Arc::new(answer);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let answer = Arc::clone(&answer);
            // That the probe hangs up is what is wanted.
            std::thread::spawn(move || {
                stream.and_then(|mut stream| answer(&asked(&mut stream)?, &mut stream))
            });
        }
    });
    base
}

fn asked(stream: &mut TcpStream) -> std::io::Result<Asked> {
    let mut text = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let length = stream.read(&mut piece)?;
        text.extend_from_slice(&piece[..length]);
        let head = String::from_utf8_lossy(&text).into_owned();
        let Some((head, body)) = head.split_once("\r\n\r\n") else {
            if length == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            continue;
        };
        let wanted = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length")
                .then(|| value.trim().parse::<usize>().ok())?
        });
        if body.len() < wanted.unwrap_or(0) {
            continue;
        }
        return Ok(Asked {
            message: serde_json::from_str(body).unwrap_or_default(),
        });
    }
}

fn respond(stream: &mut TcpStream, kind: &str, body: &str) -> std::io::Result<()> {
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )
}

fn result(stream: &mut TcpStream, asked: &Asked, result: &str) -> std::io::Result<()> {
    let id = asked.id();
    respond(
        stream,
        "application/json",
        &format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#),
    )
}

const GREETING: &str = r#"{"supportedVersions":["2026-07-28"],"capabilities":{"tools":{}}}"#;

/// How long it took, what it held at most, and what came of it.
struct Probed {
    took: Duration,
    held: u64,
    seen: Result<Seen, ProbeError>,
}

fn probe_and_count(target: &Target, paths: &Paths, limits: &Limits) -> Probed {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let start = Instant::now();
    let mut seen = None;
    let counted = allocation_counter::measure(|| {
        seen = Some(runtime.block_on(probe(target, paths, limits)));
    });
    Probed {
        took: start.elapsed(),
        held: counted.bytes_max,
        seen: seen.unwrap(),
    }
}

/// `open`, then `item` as often as fits, then `close`.
fn filled(size: usize, open: &str, item: &str, close: &str) -> String {
    let times = (size - open.len() - close.len()) / item.len();
    let mut text = open.to_owned() + &item.repeat(times);
    if text.ends_with(',') {
        text.pop();
    }
    text + close
}

/// JSON values of about `size` bytes that grow when they are parsed as trees.
fn values(size: usize) -> Vec<(&'static str, String)> {
    let deep = |open: &str, middle: &str, close: &str| {
        let times = size / (open.len() + close.len());
        open.repeat(times) + middle + &close.repeat(times)
    };
    let mut members = "{".to_owned();
    for index in 0.. {
        let member = format!(r#""{index:x}":0,"#);
        if members.len() + member.len() > size {
            break;
        }
        members += &member;
    }
    members.pop();
    vec![
        ("numbers", filled(size, "[", "0,", "]")),
        ("large numbers", filled(size, "[", "1e15,", "]")),
        ("arrays", filled(size, "[", "[],", "]")),
        ("objects", filled(size, "[", r#"{"a":0},"#, "]")),
        ("words", format!("\"{}\"", "a ".repeat(size / 2))),
        ("escapes", format!("\"{}\"", "\\n".repeat(size / 2))),
        ("members", members + "}"),
        ("one member", filled(size, "{", r#""a":0,"#, "}")),
        ("nested arrays", deep("[", "", "]")),
        ("nested objects", deep(r#"{"a":"#, "0", "}")),
    ]
}

/// Where a value may stand in what a server answers.
const PLACES: [&str; 9] = [
    "the whole answer",
    "the greeting",
    "versions",
    "the old greeting",
    "an error",
    "tools",
    "a tool",
    "a tool's schema",
    "events",
];

fn place(place: &'static str, value: String) -> Url {
    serve(move |asked, stream| {
        let id = asked.id();
        let discover = asked.method() == "server/discover";
        match place {
            "the whole answer" => respond(stream, "application/json", &value),
            "the greeting" => result(stream, asked, &value),
            "versions" if discover => result(stream, asked, &format!(r#"{{"supportedVersions":{value}}}"#)),
            "the old greeting" if discover => respond(stream, "text/plain", "what?"),
            "versions" | "the old greeting" => {
                result(stream, asked, &format!(r#"{{"protocolVersion":{value}}}"#))
            }
            "an error" => {
                let error = format!(
                    r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":1,"message":{value},"data":{value}}}}}"#
                );
                respond(stream, "application/json", &error)
            }
            "events" => {
                let lines = filled(value.len(), "", "data:\n", "\n");
                let events = filled(value.len(), &lines, "data:\n\n", "");
                respond(stream, "text/event-stream", &format!("{events}data: {value}\n\n"))
            }
            _ if discover => result(stream, asked, GREETING),
            "tools" => result(stream, asked, &format!(r#"{{"tools":{value}}}"#)),
            "a tool" => result(stream, asked, &format!(r#"{{"tools":[{value}]}}"#)),
            _ => {
                let tool = format!(r#"{{"tools":[{{"name":"a","inputSchema":{value}}}]}}"#);
                result(stream, asked, &tool)
            }
        }
    })
}

#[test]
fn no_answer_makes_the_probe_hold_much() {
    let (mut failures, mut most) = (vec![], 0);
    for size in [500 * KIB, 4 * KIB * KIB - 512] {
        for (name, value) in values(size) {
            for where_ in PLACES {
                let size = size / KIB;
                // Beyond the limit it does not matter what it is.
                if size > 512 && name != "objects" {
                    continue;
                }
                let base = place(where_, value.clone());
                let probed = probe_and_count(&target(base, Role::Server), &streamable(), &Limits::default());
                most = most.max(probed.held);
                if probed.held > HELD || probed.took > Duration::from_secs(5) {
                    let Probed { took, held, seen } = probed;
                    let held = held / 1024;
                    failures.push(format!(
                        "{size} KiB of {name} as {where_}: held {held} KiB for {took:?}: {seen:?}"
                    ));
                }
            }
        }
    }
    println!("at most {} KiB were held", most / 1024);
    assert!(
        failures.is_empty(),
        "{}\n{} of them",
        failures.join("\n"),
        failures.len()
    );
}

/// An honest server with many tools, whose schemas have many small members.
fn honest(size: usize) -> (usize, String) {
    let properties: Vec<String> = (0..60)
        .map(|index| format!(r#""property_{index}":{{"type":"string","x":{{}}}}"#))
        .collect();
    let schema = format!(r#"{{"type":"object","properties":{{{}}}}}"#, properties.join(","));
    let mut tools = vec![];
    let mut length = 0;
    while length < size {
        let tool = format!(r#"{{"name":"tool_{:04}","inputSchema":{schema}}}"#, tools.len());
        length += tool.len() + 1;
        tools.push(tool);
    }
    (tools.len(), format!(r#"{{"tools":[{}]}}"#, tools.join(",")))
}

#[test]
fn an_honest_list_of_400_kilobytes_is_read_within_the_same_bound() {
    let (count, list) = honest(400_000);
    let base = serve(move |asked, stream| match asked.method() {
        "server/discover" => result(stream, asked, GREETING),
        _ => result(stream, asked, &list),
    });
    let probed = probe_and_count(&target(base, Role::Server), &streamable(), &Limits::default());
    let report = report(probed.seen);
    assert_eq!(report.tools.len(), count);
    assert_eq!(names(&report)[0], "tool_0000");
    assert!(probed.held < HELD, "held {} KiB", probed.held / 1024);
}

fn chunk(stream: &mut TcpStream, piece: &str) -> std::io::Result<()> {
    write!(stream, "{:x}\r\n{piece}\r\n", piece.len())
}

fn head(stream: &mut TcpStream, more: &str) -> std::io::Result<()> {
    write!(stream, "HTTP/1.1 200 OK\r\n{more}\r\n\r\n")
}

type Act = fn(&Asked, &mut TcpStream) -> std::io::Result<()>;

const JSON_CHUNKS: &str = "content-type: application/json\r\ntransfer-encoding: chunked";
const EVENT_CHUNKS: &str = "content-type: text/event-stream\r\ntransfer-encoding: chunked";

/// What is done, with which reason it must end, and what the message must say.
const ACTS: [(&str, Act, &str, &str); 17] = [
    (
        "a length of a tebibyte",
        |_, stream| {
            head(
                stream,
                "content-type: application/json\r\ncontent-length: 1099511627776",
            )?;
            loop {
                stream.write_all(&[b' '; 4096])?;
            }
        },
        "AnswerTooLarge",
        "more than 512 KiB",
    ),
    (
        "endless chunks",
        |_, stream| {
            head(stream, JSON_CHUNKS)?;
            loop {
                chunk(stream, &"[".repeat(4096))?;
            }
        },
        "AnswerTooLarge",
        "more than 512 KiB",
    ),
    (
        "endless comments",
        |_, stream| {
            head(stream, EVENT_CHUNKS)?;
            loop {
                chunk(stream, &":\n\n".repeat(1000))?;
            }
        },
        "AnswerTooLarge",
        "more than 512 KiB",
    ),
    (
        "endless events",
        |_, stream| {
            head(stream, EVENT_CHUNKS)?;
            loop {
                chunk(stream, &"data\n\n".repeat(1000))?;
            }
        },
        "AnswerTooLarge",
        "more than 512 KiB",
    ),
    (
        "an event without end",
        |_, stream| {
            head(stream, EVENT_CHUNKS)?;
            loop {
                chunk(stream, &"data:\n".repeat(1000))?;
            }
        },
        "AnswerTooLarge",
        "more than 512 KiB",
    ),
    (
        "a line without end",
        |_, stream| {
            head(stream, EVENT_CHUNKS)?;
            loop {
                chunk(stream, &"\u{fc}".repeat(1000))?;
            }
        },
        "AnswerTooLarge",
        "more than 512 KiB",
    ),
    (
        "a byte now and then",
        |_, stream| {
            head(stream, JSON_CHUNKS)?;
            loop {
                chunk(stream, " ")?;
                std::thread::sleep(Duration::from_millis(20));
            }
        },
        "Timeout",
        "not answered within",
    ),
    (
        "a header now and then",
        |_, stream| {
            stream.write_all(b"HTTP/1.1 200 OK\r\n")?;
            loop {
                stream.write_all(b"x: y\r\n")?;
                std::thread::sleep(Duration::from_millis(20));
            }
        },
        "Timeout",
        "not answered within",
    ),
    (
        "a promise without end",
        |_, stream| {
            loop {
                stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
                std::thread::sleep(Duration::from_millis(1));
            }
        },
        "Timeout",
        "not answered within",
    ),
    (
        "a cut answer",
        |_, stream| {
            head(stream, "content-type: application/json\r\ncontent-length: 1000")?;
            stream.write_all(b"{\"jsonrpc\"")
        },
        "Unreachable",
        "broke off",
    ),
    (
        "no answer at all",
        |_, stream| stream.shutdown(std::net::Shutdown::Both),
        "Unreachable",
        "did not reach a server",
    ),
    (
        "something compressed",
        |_, stream| {
            let bomb = [31, 139, 8, 0, 0, 0, 0, 0, 2, 255];
            head(
                stream,
                "content-type: application/json\r\ncontent-encoding: gzip\r\ncontent-length: 10",
            )?;
            stream.write_all(&bomb)
        },
        "NotMcp",
        "content encoding gzip, which was not asked for",
    ),
    (
        "many large headers",
        |_, stream| {
            let header = format!("x-large: {}\r\n", "x".repeat(2000));
            head(stream, &format!("{}content-length: 0", header.repeat(80)))
        },
        "AnswerTooLarge",
        "more than 64 KiB of headers",
    ),
    (
        "one huge header",
        |_, stream| {
            stream.write_all(b"HTTP/1.1 200 OK\r\nx-huge: ")?;
            loop {
                stream.write_all(&[b'x'; 4096])?;
            }
        },
        "AnswerTooLarge",
        "more than 64 KiB of headers",
    ),
    (
        "headers without number",
        |_, stream| head(stream, &format!("{}content-length: 0", "x: y\r\n".repeat(5000))),
        "AnswerTooLarge",
        "more than 64 KiB of headers",
    ),
    (
        "large pages",
        |asked, stream| {
            if asked.method() == "server/discover" {
                result(stream, asked, GREETING)
            } else {
                let page = format!(
                    r#"{{"tools":[{{"name":"{}","x":"{}"}}],"nextCursor":"n"}}"#,
                    asked.id(),
                    "x".repeat(300_000)
                );
                result(stream, asked, &page)
            }
        },
        "AnswerTooLarge",
        "more than 2048 KiB in all its answers",
    ),
    (
        "a cursor that is a burden",
        |asked, stream| match asked.method() {
            "server/discover" => result(stream, asked, GREETING),
            _ => result(
                stream,
                asked,
                &format!(r#"{{"tools":[],"nextCursor":"{}"}}"#, "n".repeat(300_000)),
            ),
        },
        "AnswerTooLarge",
        "more than a cursor of 4 KiB",
    ),
];

#[test]
fn every_trick_ends_early_and_is_named() {
    let limits = Limits {
        call: Duration::from_secs(1),
        ..Limits::default()
    };
    for (name, act, reason, part) in ACTS {
        for paths in [streamable(), sse()] {
            // Pages come after a greeting, which these servers have for streamable HTTP only.
            let of_pages = name == "large pages" || name == "a cursor that is a burden";
            if of_pages && paths == sse() {
                continue;
            }
            let target = target(serve(act), Role::Server);
            let probed = probe_and_count(&target, &paths, &limits);
            let error = probed.seen.expect_err(name);
            // A stream that is asked for has to be one.
            let no_stream = paths == sse() && error.reason() == "NotMcp";
            assert!(no_stream || error.reason() == reason, "{name}: {error}");
            assert!(no_stream || error.to_string().contains(part), "{name}: {error}");
            assert!(error.to_string().len() < 1_000, "{name}: {error}");
            assert!(probed.took < Duration::from_secs(5), "{name}: {:?}", probed.took);
            println!("{name}: held {} KiB", probed.held / 1024);
            assert!(probed.held < HELD, "{name}: held {} KiB", probed.held / 1024);
        }
    }
}
