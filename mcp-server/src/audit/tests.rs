use super::*;
use crate::protocol::json::{Json, parse};
use crate::protocol::revision::Transport;
use serde_json::{Value, json};
use std::sync::{Condvar, Mutex, MutexGuard};

const END: Duration = Duration::from_secs(10);

/// Something to write to that a test can read, hold up and break.
#[derive(Debug, Clone, Default)]
struct Paper(Arc<(Mutex<Sheet>, Condvar)>);

#[derive(Debug, Default)]
struct Sheet {
    text: Vec<u8>,
    held: bool,
    waits: bool,
    broken: bool,
    /// Length of each write.
    writes: Vec<usize>,
}

impl Paper {
    fn lock(&self) -> MutexGuard<'_, Sheet> {
        self.0.0.lock().unwrap()
    }

    fn change(&self, change: impl FnOnce(&mut Sheet)) {
        change(&mut self.lock());
        self.0.1.notify_all();
    }

    fn until(&self, holds: impl Fn(&Sheet) -> bool) {
        let (sheet, waited) = self
            .0
            .1
            .wait_timeout_while(self.lock(), END, |sheet| !holds(sheet))
            .unwrap();
        drop(sheet);
        assert!(!waited.timed_out(), "waited in vain for the writer");
    }

    fn lines(&self) -> Vec<Value> {
        let sheet = self.lock();
        let lines = sheet
            .text
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty());
        lines.map(|line| serde_json::from_slice(line).unwrap()).collect()
    }
}

impl Write for Paper {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let mut sheet = self.lock();
        sheet.waits = sheet.held;
        self.0.1.notify_all();
        let mut sheet = self.0.1.wait_while(sheet, |sheet| sheet.held).unwrap();
        sheet.waits = false;
        if sheet.broken {
            return Err(std::io::ErrorKind::StorageFull.into());
        }
        sheet.text.extend_from_slice(bytes);
        if !bytes.is_empty() {
            sheet.writes.push(bytes.len());
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.1.notify_all();
        Ok(())
    }
}

fn work(tool: &str, arguments: &str) -> Work {
    let Json::Object(arguments) = parse(arguments.as_bytes()).unwrap() else {
        panic!("arguments")
    };
    Work::read(tool, &arguments)
}

fn audit(paper: &Paper, waiting: usize) -> (Audit, Arc<Metrics>) {
    let metrics = Arc::default();
    let sink = Sink {
        to: Box::new(paper.clone()),
        piece: UNMIXED,
    };
    let audit = Audit::write_to(sink, waiting, "x-mcp-caller".parse().unwrap(), &metrics);
    (audit.unwrap(), metrics)
}

fn call(audit: &Audit, tool: &str, arguments: &str, ending: Ending) {
    let work = work(tool, arguments);
    audit
        .begin(Origin::default(), Era::Modern, &work, Instant::now())
        .finish(ending);
}

fn count(metrics: &Metrics, outcome: &str) -> u64 {
    let name = format!(r#"mcp_weather_audit_records_total{{outcome="{outcome}"}} "#);
    let text = metrics.render();
    text.lines()
        .find_map(|line| line.strip_prefix(&name))
        .unwrap()
        .parse()
        .unwrap()
}

/// One record as a line.
fn line_of(record: &Record) -> Value {
    let mut line = Vec::new();
    super::line::call(&mut line, record);
    assert_eq!(line.pop(), Some(b'\n'));
    serde_json::from_slice(&line).unwrap()
}

#[test]
fn a_line_says_who_called_what_when_with_what_result() {
    let record = Record {
        at: SystemTime::UNIX_EPOCH + Duration::from_micros(1_764_105_600_000_001),
        took: Duration::from_micros(1250),
        tool: Tool::GetAlerts,
        era: Era::Handshake(Transport::Sse),
        shown: (&work("get_alerts", r#"{"state":"california"}"#)).into(),
        ending: Ending::Answered(Outcome::Ok),
        origin: Origin {
            caller: Caller::from_bytes(b"team \"a\"").map(|caller| caller.asserted(true)),
            session: Some(SessionHash::of("abc")),
        },
    };
    assert_eq!(
        line_of(&record),
        json!({
            "audit": "tool_call", "time": "2025-11-25T21:20:00.000001Z", "tool": "get_alerts",
            "arguments": {"state": "CA"}, "era": "sse", "caller": {"asserted": "team \"a\""},
            "session": "ba7816bf8f01cfea", "result": "ok", "seconds": 0.00125
        })
    );
}

#[test]
fn arguments_are_masked_by_rule() {
    for (tool, arguments, name, shown) in [
        (
            "get_alerts",
            r#"{"state":"D.C."}"#,
            "get_alerts",
            json!({"state": "DC"}),
        ),
        (
            "get_forecast",
            r#"{"latitude":47.6061,"longitude":-122.3328}"#,
            "get_forecast",
            json!({"latitude": 47.6, "longitude": -122.3}),
        ),
        (
            "get_forecast",
            r#"{"latitude":-0.04,"longitude":179.96}"#,
            "get_forecast",
            json!({"latitude": 0.0, "longitude": 180.0}),
        ),
        (
            "get_alerts",
            r#"{"state":"my password"}"#,
            "get_alerts",
            Value::Null,
        ),
        (
            "get_alerts",
            r#"{"state":"CA","password":"secret"}"#,
            "get_alerts",
            Value::Null,
        ),
        ("my password", "{}", "other", Value::Null),
    ] {
        let paper = Paper::default();
        let (audit, _) = audit(&paper, 8);
        call(&audit, tool, arguments, Ending::Answered(Outcome::ToolError));
        assert!(audit.close(END));
        let lines = paper.lines();
        let line = &lines[1];
        assert_eq!(
            (&line["tool"], &line["arguments"]),
            (&json!(name), &shown),
            "{line}"
        );
        let text = line.to_string();
        assert!(
            !text.contains("password") && !text.contains("secret") && !text.contains("-0.0"),
            "{text}"
        );
    }
}

#[test]
fn every_ending_has_its_word() {
    let paper = Paper::default();
    let (audit, metrics) = audit(&paper, 8);
    for outcome in [Outcome::Ok, Outcome::ToolError, Outcome::Refused] {
        call(
            &audit,
            "get_alerts",
            r#"{"state":"CA"}"#,
            Ending::Answered(outcome),
        );
    }
    let work = work("get_alerts", r#"{"state":"CA"}"#);
    audit.limited(Origin::default(), Era::Modern, &work, "rate");
    drop(audit.begin(Origin::default(), Era::Modern, &work, Instant::now()));
    assert!(audit.close(END));
    let lines = paper.lines();
    let words: Vec<_> = lines
        .iter()
        .map(|line| line["result"].as_str().unwrap_or("-"))
        .collect();
    assert_eq!(
        words,
        ["-", "ok", "tool_error", "refused", "limited", "cancelled", "-"]
    );
    assert_eq!(lines[4]["limit"], "rate");
    assert_eq!(
        (&lines[0]["audit"], &lines[6]["audit"]),
        (&json!("opened"), &json!("closed"))
    );
    assert_eq!(lines[6]["unfinished"], 0);
    assert_eq!((count(&metrics, "written"), count(&metrics, "dropped")), (5, 0));
}

#[test]
fn what_finds_no_room_is_counted_and_told() {
    let paper = Paper::default();
    let (audit, metrics) = audit(&paper, 4);
    paper.until(|sheet| !sheet.text.is_empty());
    paper.change(|sheet| sheet.held = true);
    let ok = Ending::Answered(Outcome::Ok);
    call(&audit, "get_alerts", r#"{"state":"CA"}"#, ok);
    paper.until(|sheet| sheet.waits);
    // The writer has taken one and is held up: four more find room.
    for _ in 0..10 {
        call(&audit, "get_alerts", r#"{"state":"OR"}"#, ok);
    }
    assert_eq!(count(&metrics, "dropped"), 6);
    paper.change(|sheet| sheet.held = false);
    assert!(audit.close(END));
    let lines = paper.lines();
    let kinds: Vec<_> = lines.iter().map(|line| line["audit"].as_str().unwrap()).collect();
    assert_eq!(
        kinds,
        [
            "opened",
            "tool_call",
            "lost",
            "tool_call",
            "tool_call",
            "tool_call",
            "tool_call",
            "closed"
        ]
    );
    assert_eq!(lines[2]["records"], 6);
    assert_eq!(count(&metrics, "written"), 5);
}

#[test]
fn what_cannot_be_written_is_counted_and_told_when_it_can_be_again() {
    let paper = Paper::default();
    let (audit, metrics) = audit(&paper, 4);
    paper.until(|sheet| !sheet.text.is_empty());
    paper.change(|sheet| sheet.broken = true);
    let ok = Ending::Answered(Outcome::Ok);
    call(&audit, "get_alerts", r#"{"state":"CA"}"#, ok);
    let limit = Instant::now() + END;
    while count(&metrics, "failed") == 0 {
        assert!(Instant::now() < limit, "waited in vain for the writer");
        std::thread::yield_now();
    }
    paper.change(|sheet| sheet.broken = false);
    call(&audit, "get_alerts", r#"{"state":"OR"}"#, ok);
    assert!(audit.close(END));
    let lines = paper.lines();
    let kinds: Vec<_> = lines.iter().map(|line| line["audit"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["opened", "lost", "tool_call", "closed"]);
    assert_eq!(
        (&lines[1]["records"], &lines[2]["arguments"]["state"]),
        (&json!(1), &json!("OR"))
    );
    assert_eq!(count(&metrics, "written"), 1);
}

#[test]
fn a_writer_that_hangs_does_not_hold_up_the_end() {
    let paper = Paper::default();
    let (audit, _) = audit(&paper, 4);
    paper.until(|sheet| !sheet.text.is_empty());
    paper.change(|sheet| sheet.held = true);
    call(&audit, "get_alerts", "{}", Ending::Answered(Outcome::ToolError));
    paper.until(|sheet| sheet.waits);
    assert!(!audit.close(Duration::from_millis(20)));
    paper.change(|sheet| sheet.held = false);
    assert!(audit.close(END));
}

#[test]
fn a_record_costs_no_allocation() {
    let paper = Paper::default();
    let (audit, _) = audit(&paper, 8192);
    paper.until(|sheet| !sheet.text.is_empty());
    // Held up, so that the queue keeps the memory that it has grown to.
    paper.change(|sheet| sheet.held = true);
    let work = work("get_alerts", r#"{"state":"CA"}"#);
    let mut headers = HeaderMap::new();
    headers.insert("x-mcp-caller", http::HeaderValue::from_static("team-a"));
    let call = || {
        let origin = audit.origin(&headers, Some("an id of a session"), None);
        let entry = audit.begin(origin, Era::Modern, &work, Instant::now());
        entry.finish(Ending::Answered(Outcome::Ok));
    };
    call();
    paper.until(|sheet| sheet.waits);
    (0..2100).for_each(|_| call());
    let counted = allocation_counter::measure(|| (0..1000).for_each(|_| call()));
    assert_eq!(counted.count_total, 0, "{counted:?}");
    paper.change(|sheet| sheet.held = false);
    assert!(audit.close(END));
    assert_eq!(paper.lines().len(), 3103);
}

#[test]
fn no_line_is_so_long_that_it_could_be_mixed_with_others() {
    let mut line = Vec::new();
    let record = Record {
        at: SystemTime::now(),
        took: Duration::from_secs(u32::MAX.into()),
        tool: Tool::GetForecast,
        era: Era::Handshake(Transport::StreamableHttp),
        shown: (&work("get_forecast", r#"{"latitude":-89.99,"longitude":-179.99}"#)).into(),
        ending: Ending::Limited("calls_of_a_session"),
        origin: Origin {
            caller: Caller::from_bytes(&[b'"'; 1000]),
            session: Some(SessionHash::of("")),
        },
    };
    super::line::call(&mut line, &record);
    assert!(line.len() <= super::writer::LONGEST_LINE, "{}", line.len());

    // And many of them are written in pieces that end with a line.
    let paper = Paper::default();
    let (audit, _) = audit(&paper, 4096);
    paper.until(|sheet| !sheet.text.is_empty());
    for _ in 0..500 {
        call(
            &audit,
            "get_alerts",
            r#"{"state":"OR"}"#,
            Ending::Answered(Outcome::Ok),
        );
    }
    assert!(audit.close(END));
    assert_eq!(paper.lines().len(), 502);
    let sheet = paper.lock();
    assert!(sheet.writes.len() > 5, "{:?}", sheet.writes);
    let mut end = 0;
    for length in &sheet.writes {
        end += length;
        assert!(*length <= UNMIXED && sheet.text[end - 1] == b'\n', "{length}");
    }
}

#[test]
fn targets_are_words_or_paths() {
    for (text, target) in [
        ("off", Target::Off),
        ("stdout", Target::Stdout),
        ("stderr", Target::Stderr),
        (
            "/var/log/audit.jsonl",
            Target::File("/var/log/audit.jsonl".into()),
        ),
        ("./off", Target::File("./off".into())),
    ] {
        let parsed = Target::parse(text).unwrap();
        assert_eq!((parsed.to_string(), &parsed), (text.to_owned(), &target));
    }
    assert!(Target::parse("stdot").is_err());
    let file = Target::File("/nowhere/audit".into());
    let error = Audit::open(&file, CallerHeader::default(), &Arc::default()).unwrap_err();
    assert!(error.to_string().contains("/nowhere/audit"), "{error}");
}
