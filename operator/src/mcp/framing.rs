//! Server-sent events, decoded as the bytes arrive (WHATWG HTML, section 9.2.6). In: chunks; out: whole events, one at a
//! time, so that a chunk full of tiny ones costs nothing. Bounded by the caller, who counts the bytes that it feeds.

use bytes::Bytes;

use super::exchange::append;

/// One event. `name` is `message` unless the stream says otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Event {
    pub name: String,
    pub data: String,
}

/// Keeps what has no end yet.
#[derive(Debug)]
pub(super) struct Decoder {
    /// Bytes that an event will have at most.
    most: usize,
    /// Fed and not looked at yet.
    chunk: Bytes,
    line: Vec<u8>,
    after_carriage_return: bool,
    started: bool,
    name: String,
    data: Option<String>,
}

impl Decoder {
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            chunk: Bytes::new(),
            line: Vec::new(),
            after_carriage_return: false,
            started: false,
            name: String::new(),
            data: None,
        }
    }

    /// Takes a chunk, when all events of the one before have been taken.
    pub(super) fn feed(&mut self, chunk: Bytes) {
        self.chunk = chunk;
    }

    /// Bytes that are held for an event that has no end yet.
    pub(super) fn held(&self) -> usize {
        self.line.len() + self.name.len() + self.data.as_ref().map_or(0, String::len)
    }

    /// The next whole event of what was fed.
    pub(super) fn next(&mut self) -> Option<Event> {
        while !self.chunk.is_empty() {
            if std::mem::take(&mut self.after_carriage_return) && self.chunk.starts_with(b"\n") {
                let _ = self.chunk.split_to(1);
                continue;
            }
            let end = self.chunk.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
            let Some(end) = end else {
                append(&mut self.line, &self.chunk, self.most);
                self.chunk = Bytes::new();
                return None;
            };
            append(&mut self.line, &self.chunk[..end], self.most);
            self.after_carriage_return = self.chunk[end] == b'\r';
            let _ = self.chunk.split_to(end + 1);
            let line = std::mem::take(&mut self.line);
            if let Some(event) = self.end_of_line(text(line)) {
                return Some(event);
            }
        }
        self.chunk = Bytes::new();
        None
    }

    fn end_of_line(&mut self, mut line: String) -> Option<Event> {
        if !std::mem::replace(&mut self.started, true) && line.starts_with('\u{feff}') {
            line.remove(0);
        }
        if line.is_empty() {
            return self.dispatch();
        }
        let (field, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.name),
            "data" => {
                if let Some(data) = &mut self.data {
                    data.push('\n');
                    data.push_str(value);
                } else {
                    // In place: an answer is one long line.
                    let begin = line.len() - value.len();
                    line.drain(..begin);
                    self.data = Some(line);
                }
            }
            // A comment (no field name), id, retry: nothing a probe needs.
            _ => {}
        }
        None
    }

    fn dispatch(&mut self) -> Option<Event> {
        let name = std::mem::take(&mut self.name);
        let data = self.data.take()?;
        let name = if name.is_empty() {
            "message".to_owned()
        } else {
            name
        };
        Some(Event { name, data })
    }
}

/// What is no UTF-8 becomes question marks: replacement characters would take three times the place.
fn text(line: Vec<u8>) -> String {
    String::from_utf8(line).unwrap_or_else(|broken| {
        let mut line = broken.into_bytes();
        for byte in &mut line {
            if !byte.is_ascii() {
                *byte = b'?';
            }
        }
        String::from_utf8(line).unwrap_or_default()
    })
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

    fn decode(decoder: &mut Decoder, bytes: &[u8]) -> Vec<Event> {
        decoder.feed(Bytes::copy_from_slice(bytes));
        std::iter::from_fn(|| decoder.next()).collect()
    }

    #[test]
    fn every_framing_is_read() {
        let cases: [(&[u8], Vec<Event>); 8] = [
            (
                b"event: endpoint\ndata: messages/1\n\n",
                vec![event("endpoint", "messages/1")],
            ),
            (
                b"event:endpoint\r\ndata:messages/1\r\n\r\n",
                vec![event("endpoint", "messages/1")],
            ),
            (b"data: a\rdata: b\r\r", vec![event("message", "a\nb")]),
            (b": ping\n\nid: 7\nretry: 5\n\n", vec![]),
            (
                b"\xef\xbb\xbfdata: {}\n\ndata: cut off\n",
                vec![event("message", "{}")],
            ),
            (b"event: x\n\ndata: y\n\n", vec![event("message", "y")]),
            (
                b"data\n\ndata:\ndata\n\n",
                vec![event("message", ""), event("message", "\n")],
            ),
            (b"data: \xffx\n\n", vec![event("message", "?x")]),
        ];
        for (text, events) in cases {
            assert_eq!(decode(&mut Decoder::new(100), text), events, "{text:?}");
        }
    }

    #[test]
    fn what_is_held_is_known() {
        let mut decoder = Decoder::new(100);
        assert_eq!(decode(&mut decoder, b"event: four\ndata: seven\nda"), []);
        assert_eq!(decoder.held(), 4 + 5 + 2);
        assert_eq!(decode(&mut decoder, b"ta\n\n"), [event("four", "seven\n")]);
        assert_eq!(decoder.held(), 0);
    }

    proptest! {
        #[test]
        fn chunks_do_not_matter(text in "(data: [a-zäö:]{0,5}\r?\n|event: e\n|\r\n|\n|:c\n){0,12}", cut in 0usize..100) {
            let bytes = text.as_bytes();
            let cut = cut.min(bytes.len());
            let mut decoder = Decoder::new(100);
            let mut parts = decode(&mut decoder, &bytes[..cut]);
            parts.extend(decode(&mut decoder, &bytes[cut..]));
            // A letter that was cut in two is whole again: lines are read when they have ended.
            prop_assert_eq!(parts, decode(&mut Decoder::new(100), bytes));
        }
    }
}
