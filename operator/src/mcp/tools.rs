//! Tools and the digests of their definitions. In: the pages of tools/list; out: names and digests, sorted, as many as a
//! status may list. Pure.

use std::collections::BTreeMap;
use std::fmt;

use mcp_fleet_crds::Tool;
use serde::Deserialize;
use serde::de::{Deserializer as _, Error as _, SeqAccess, Visitor};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::canonical;
use super::json::{self, Member};

/// Characters of a name; the specification recommends at most 128 (2025-11-25, server/tools).
const NAME: usize = 128;
/// Bytes of a name as it is sent; what is longer is no name.
const NAME_BYTES: usize = 4_096;
/// Bytes of a cursor, which has to be sent back.
const CURSOR_BYTES: usize = 4_096;
/// Tools that a status lists, and bytes that they take there: a status is far below what etcd takes (1.5 MiB), and a
/// fleet of them fits into memory.
const LISTED: usize = 256;
const LISTED_BYTES: usize = 40 * 1024;

/// Tools by name, with the digests of their definitions.
pub(super) type Found = BTreeMap<String, [u8; 32]>;

/// Why a result is no page of tools.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    NotAList,
    TooMany,
    /// More than this.
    TooLarge(&'static str),
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page<'a> {
    #[serde(borrow, default)]
    tools: Member<'a>,
    #[serde(borrow, default)]
    next_cursor: Member<'a>,
}

#[derive(Default, Deserialize)]
struct Head<'a> {
    #[serde(borrow, default)]
    name: Member<'a>,
}

/// Reads a page of tools/list: adds its tools to `found`, until there are more than `most`. The cursor of the next page.
pub(super) fn page(result: &str, found: &mut Found, most: usize) -> Result<Option<String>, Refusal> {
    let page: Page<'_> = json::object(result).ok_or(Refusal::NotAList)?;
    let tools = json::list(page.tools).ok_or(Refusal::NotAList)?;
    let mut refusal = None;
    let reader = Reader {
        found,
        most,
        refusal: &mut refusal,
    };
    serde_json::Deserializer::from_str(tools)
        .deserialize_seq(reader)
        .map_err(|_| refusal.unwrap_or(Refusal::NotAList))?;
    match page.next_cursor {
        Some(cursor) if cursor.get().len() > CURSOR_BYTES => Err(Refusal::TooLarge("a cursor of 4 KiB")),
        cursor => {
            let cursor = json::string(cursor, CURSOR_BYTES).filter(|cursor| !cursor.is_empty());
            Ok(cursor.map(std::borrow::Cow::into_owned))
        }
    }
}

struct Reader<'a> {
    found: &'a mut Found,
    most: usize,
    refusal: &'a mut Option<Refusal>,
}

impl<'de> Visitor<'de> for Reader<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a list of tools")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut tools: A) -> Result<(), A::Error> {
        while let Some(definition) = tools.next_element::<&RawValue>()? {
            let refusal = match tool(definition) {
                Ok((name, digest)) => {
                    self.found.insert(name, digest);
                    (self.found.len() > self.most).then_some(Refusal::TooMany)
                }
                Err(refusal) => Some(refusal),
            };
            if refusal.is_some() {
                *self.refusal = refusal;
                return Err(A::Error::custom("refused"));
            }
        }
        Ok(())
    }
}

fn tool(definition: &RawValue) -> Result<(String, [u8; 32]), Refusal> {
    let head: Head<'_> = json::object(definition.get()).ok_or(Refusal::NotAList)?;
    let name = json::string(head.name, NAME_BYTES).filter(|name| !name.is_empty());
    let name = json::shortened(&name.ok_or(Refusal::NotAList)?, NAME);
    match digest(definition) {
        Ok(digest) => Ok((name, digest)),
        Err(canonical::Refusal::Invalid) => Err(Refusal::NotAList),
        Err(canonical::Refusal::TooLarge) => Err(Refusal::TooLarge(
            "64 levels or 4096 members in the definition of one tool",
        )),
    }
}

/// What a status lists of them, first by name, and how many there are.
pub(super) fn listed(found: &Found) -> (Vec<Tool>, usize) {
    let mut bytes = 0;
    let listed = found
        .iter()
        .take(LISTED)
        .map(|(name, digest)| Tool {
            name: name.clone(),
            digest: format!("sha256:{}", hex::encode(digest)),
        })
        .take_while(|tool| {
            // A comma after each.
            bytes += serde_json::to_string(tool).map_or(0, |text| text.len() + 1);
            bytes <= LISTED_BYTES
        });
    (listed.collect(), found.len())
}

/// The hash of the definition's canonical JSON. `_meta` stays out: it is not what a model reads, and may differ from
/// call to call.
fn digest(definition: &RawValue) -> Result<[u8; 32], canonical::Refusal> {
    let mut hash = Hash {
        hasher: Sha256::new(),
        text: String::new(),
    };
    canonical::write(&mut hash, definition, "_meta")?;
    hash.hasher.update(&hash.text);
    Ok(hash.hasher.finalize().into())
}

/// Hashes text in pieces that are worth a call.
struct Hash {
    hasher: Sha256,
    text: String,
}

impl fmt::Write for Hash {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        const PIECE: usize = 1_024;
        if self.text.len() + text.len() > PIECE {
            self.hasher.update(&self.text);
            self.text.clear();
        }
        if text.len() > PIECE {
            self.hasher.update(text);
        } else {
            self.text.push_str(text);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(text: &str) -> String {
        hex::encode(digest(serde_json::from_str(text).unwrap()).unwrap())
    }

    #[test]
    fn a_digest_ignores_order_and_sees_meaning() {
        let one =
            r#"{"name":"a","description":"d","inputSchema":{"type":"object","properties":{"b":{},"a":{}}}}"#;
        let two = r#"{ "inputSchema": {"properties":{"a":{},"b":{}},"type":"object"}, "description":"d", "name":"a", "_meta":{"x":1}}"#;
        let other =
            r#"{"name":"a","description":"D","inputSchema":{"type":"object","properties":{"b":{},"a":{}}}}"#;
        assert_eq!(hash(one), hash(two));
        assert_ne!(hash(one), hash(other));
        let expected = hex::encode(Sha256::digest(r#"{"a":[1,null,"x\""],"b":{}}"#));
        assert_eq!(hash(r#"{"b": {}, "a": [1, null, "x\""], "_meta": {}}"#), expected);
    }

    #[test]
    fn a_long_definition_is_hashed_as_a_whole() {
        let text = format!(r#"{{"a":"{}","b":[{}1]}}"#, "x".repeat(5_000), "1,".repeat(5_000));
        assert_eq!(hash(&text), hex::encode(Sha256::digest(text)));
    }

    #[test]
    fn pages_are_read_and_refused() {
        let mut found = Found::new();
        let read = r#"{"tools": [{"name": "b"}, {"name": "a"}], "nextCursor": "2"}"#;
        assert_eq!(page(read, &mut found, 2), Ok(Some("2".to_owned())));
        assert_eq!(found.keys().collect::<Vec<_>>(), ["a", "b"]);
        for last in [
            r#"{"tools":[]}"#,
            r#"{"tools":[],"nextCursor":""}"#,
            r#"{"tools":[],"nextCursor":null}"#,
        ] {
            assert_eq!(page(last, &mut Found::new(), 2), Ok(None), "{last}");
        }
        let broken = [
            "{}",
            "[]",
            r#"{"tools":1}"#,
            r#"{"tools":{}}"#,
            r#"{"tools":[["a"]]}"#,
            r#"{"tools":[{"title":"x"}]}"#,
            r#"{"tools":[{"name":""}]}"#,
            r#"{"tools":[{"name":"a","x":1e999}]}"#,
        ];
        for broken in broken {
            assert_eq!(
                page(broken, &mut Found::new(), 2),
                Err(Refusal::NotAList),
                "{broken}"
            );
        }
        let long = format!(r#"{{"tools":[],"nextCursor":"{}"}}"#, "c".repeat(5_000));
        let deep = format!(
            r#"{{"tools":[{{"name":"a","x":{}{}}}]}}"#,
            "[".repeat(70),
            "]".repeat(70)
        );
        let many = r#"{"tools":[{"name":"a"},{"name":"b"},{"name":"c"}]}"#;
        for large in [long, deep] {
            let read = page(&large, &mut Found::new(), 2);
            assert!(matches!(read, Err(Refusal::TooLarge(_))), "{read:?}");
        }
        assert_eq!(page(many, &mut Found::new(), 2), Err(Refusal::TooMany));
    }

    #[test]
    fn a_status_lists_what_fits_and_says_how_many_there_are() {
        let tools = |count: usize, name: &str| -> Found {
            let name = |index| json::shortened(&format!("{index:04}{name}"), NAME);
            (0..count).map(|index| (name(index), [7; 32])).collect()
        };
        let (some, count) = listed(&tools(1_000, "_short"));
        assert_eq!((some.len(), count), (256, 1_000));
        assert_eq!(some[0].name, "0000_short");
        let (some, count) = listed(&tools(1_000, &"\u{1}".repeat(300)));
        assert_eq!(count, 1_000);
        assert!(!some.is_empty() && serde_json::to_string(&some).unwrap().len() <= LISTED_BYTES + 1);
        assert_eq!(some[0].name.chars().count(), 128);
    }
}
