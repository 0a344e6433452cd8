//! Server-sent events as bytes (WHATWG HTML, section 9.2).

use bytes::Bytes;

/// Keeps proxies from closing a quiet stream; ignored by clients.
pub const KEEP_ALIVE: Bytes = Bytes::from_static(b": keep-alive\n\n");
/// The last thing on a stream that we end ourselves.
pub const GOODBYE: Bytes = Bytes::from_static(b": the server ends this stream, reconnect\n\n");

/// One event. `data` may have any line ends: each line gets a field of its own, so none can begin another field.
pub fn event(name: &'static str, data: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(name.len() + data.len() + 24);
    out.extend_from_slice(b"event: ");
    out.extend_from_slice(name.as_bytes());
    let mut rest = data;
    loop {
        out.extend_from_slice(b"\ndata: ");
        let Some(end) = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')) else {
            break;
        };
        out.extend_from_slice(&rest[..end]);
        let after = if rest[end..].starts_with(b"\r\n") {
            end + 2
        } else {
            end + 1
        };
        rest = &rest[after..];
    }
    out.extend_from_slice(rest);
    out.extend_from_slice(b"\n\n");
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Reads a stream as the standard says.
    fn read(stream: &str) -> Vec<(String, String)> {
        let (mut events, mut name, mut data) = (Vec::new(), String::new(), None::<String>);
        for line in stream.replace("\r\n", "\n").replace('\r', "\n").split('\n') {
            match line.split_once(':') {
                _ if line.is_empty() => {
                    if let Some(data) = data.take() {
                        events.push((std::mem::take(&mut name), data));
                    }
                }
                Some(("", _)) => {}
                Some(("event", value)) => value.strip_prefix(' ').unwrap_or(value).clone_into(&mut name),
                Some(("data", value)) => {
                    let value = value.strip_prefix(' ').unwrap_or(value);
                    data = Some(data.map_or_else(|| value.to_owned(), |data| data + "\n" + value));
                }
                _ => panic!("unexpected field in {line:?}"),
            }
        }
        assert!(data.is_none(), "unfinished event");
        events
    }

    proptest! {
        #[test]
        fn whatever_goes_in_comes_out_as_one_event(data in "(.|\r|\n|\r\n|event: x|data: y|:){0,40}") {
            let bytes = [event("message", data.as_bytes()), KEEP_ALIVE, event("endpoint", b"x"), GOODBYE].concat();
            let lines = data.replace("\r\n", "\n").replace('\r', "\n");
            prop_assert_eq!(
                read(std::str::from_utf8(&bytes).unwrap()),
                vec![("message".to_owned(), lines), ("endpoint".to_owned(), "x".to_owned())]
            );
        }
    }
}
