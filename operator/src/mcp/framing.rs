//! Server-sent events, decoded as the bytes arrive (WHATWG HTML, section 9.2.6). In: chunks; out: whole events.
//! Bounded by the caller, who counts the bytes that it feeds.

/// One event. `name` is `message` unless the stream says otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Event {
    pub name: String,
    pub data: String,
}

/// Keeps what has no end yet.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    line: Vec<u8>,
    after_carriage_return: bool,
    started: bool,
    name: String,
    data: Vec<String>,
}

impl Decoder {
    pub(super) fn push(&mut self, bytes: &[u8]) -> Vec<Event> {
        let mut events = Vec::new();
        for &byte in bytes {
            let line_feed_of_pair = byte == b'\n' && self.after_carriage_return;
            self.after_carriage_return = byte == b'\r';
            if line_feed_of_pair {
                continue;
            }
            if byte == b'\n' || byte == b'\r' {
                let line = std::mem::take(&mut self.line);
                events.extend(self.end_of_line(&line));
            } else {
                self.line.push(byte);
            }
        }
        events
    }

    fn end_of_line(&mut self, line: &[u8]) -> Option<Event> {
        let line = String::from_utf8_lossy(line);
        let line = if self.started {
            &*line
        } else {
            line.trim_start_matches('\u{feff}')
        };
        self.started = true;
        if line.is_empty() {
            return self.dispatch();
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.name),
            "data" => self.data.push(value.to_owned()),
            // A comment (no field name), id, retry: nothing a probe needs.
            _ => {}
        }
        None
    }

    fn dispatch(&mut self) -> Option<Event> {
        let name = std::mem::take(&mut self.name);
        let data = std::mem::take(&mut self.data);
        if data.is_empty() {
            return None;
        }
        let name = if name.is_empty() {
            "message".to_owned()
        } else {
            name
        };
        Some(Event {
            name,
            data: data.join("\n"),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn event(name: &str, data: &str) -> Event {
        Event {
            name: name.to_owned(),
            data: data.to_owned(),
        }
    }

    #[test]
    fn every_framing_is_read() {
        let cases: [(&str, Vec<Event>); 6] = [
            (
                "event: endpoint\ndata: messages/1\n\n",
                vec![event("endpoint", "messages/1")],
            ),
            (
                "event:endpoint\r\ndata:messages/1\r\n\r\n",
                vec![event("endpoint", "messages/1")],
            ),
            ("data: a\rdata: b\r\r", vec![event("message", "a\nb")]),
            (": ping\n\nid: 7\nretry: 5\n\n", vec![]),
            (
                "\u{feff}data: {}\n\ndata: cut off\n",
                vec![event("message", "{}")],
            ),
            ("event: x\n\ndata: y\n\n", vec![event("message", "y")]),
        ];
        for (text, events) in cases {
            assert_eq!(Decoder::default().push(text.as_bytes()), events, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn chunks_do_not_matter(text in "(data: [a-zäö:]{0,5}\r?\n|event: e\n|\r\n|\n|:c\n){0,12}", cut in 0usize..100) {
            let bytes = text.as_bytes();
            let cut = cut.min(bytes.len());
            let mut decoder = Decoder::default();
            let mut parts = decoder.push(&bytes[..cut]);
            parts.extend(decoder.push(&bytes[cut..]));
            prop_assert_eq!(parts, Decoder::default().push(bytes));
        }
    }
}
