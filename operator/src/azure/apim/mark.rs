//! Whose a resource in API Management is. No resource type has tags or annotations of its own, so the mark is a
//! text in a member that people see too:
//!
//! | resource | where |
//! |---|---|
//! | backend, API, product | last line of `description`: `[mcp-fleet cluster=.. namespace=.. name=.. uid=..]`; an API's ends with ` operations=<print>` |
//! | subscription | `displayName`, at most 100 characters: `mcp-fleet/<name> <hash of the owner> <uid> <key print>` |
//!
//! In: an owner, or a text read back; out: the text, or a judgement.

use std::fmt;

use super::names::short_hash;

const OPENING: &str = "[mcp-fleet ";
const LABEL: &str = "mcp-fleet/";
const OWNER_HASH: usize = 16;
const LABEL_NAME: usize = 20;

/// The Kubernetes object that a resource belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    pub cluster_id: String,
    pub namespace: String,
    pub name: String,
    pub uid: String,
}

impl fmt::Display for Owner {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{}/{} of cluster {}",
            self.namespace, self.name, self.cluster_id
        )
    }
}

/// What a mark says about us and the resource that carries it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Ours,
    /// Same cluster, namespace and name, another uid. Kubernetes keeps names unique, so that object lives no more
    /// (a restore, a lost finalizer, a re-creation after Orphan): its resource is taken over.
    OursFormerLife,
    /// Somebody else's; the text names them.
    Foreign(String),
    Unmarked,
}

impl Verdict {
    pub fn is_ours(&self) -> bool {
        matches!(self, Self::Ours | Self::OursFormerLife)
    }
}

/// The mark line of a description.
pub fn line(owner: &Owner) -> String {
    let Owner {
        cluster_id,
        namespace,
        name,
        uid,
    } = owner;
    format!(
        "{OPENING}cluster={} namespace={} name={} uid={}]",
        encode(cluster_id),
        encode(namespace),
        encode(name),
        encode(uid)
    )
}

/// A description for people with the mark as its last line, at most `limit` characters.
pub fn describe(text: Option<&str>, owner: &Owner, limit: usize) -> String {
    with_mark(text, &line(owner), limit)
}

/// The same for an API, with a print of the operations that were written with it: lists show no operations.
pub fn describe_api(text: Option<&str>, owner: &Owner, operations: &str, limit: usize) -> String {
    let mark = line(owner);
    let open = mark.strip_suffix(']').unwrap_or(&mark);
    with_mark(text, &format!("{open} operations={}]", encode(operations)), limit)
}

fn with_mark(text: Option<&str>, mark: &str, limit: usize) -> String {
    let text = text.map(str::trim).filter(|text| !text.is_empty());
    let Some(text) = text else {
        return mark.to_owned();
    };
    // A pasted mark of somebody else inside the text would be read instead of ours.
    let text = text.replace(OPENING, "[mcp-fleet: ");
    let room = limit.saturating_sub(mark.len() + 2);
    let text: String = text.chars().take(room).collect();
    format!("{}\n\n{mark}", text.trim_end())
}

/// Judges a description.
pub fn judge(description: Option<&str>, owner: &Owner) -> Verdict {
    let Some(found) = description.and_then(parse) else {
        return Verdict::Unmarked;
    };
    if found == *owner {
        return Verdict::Ours;
    }
    let same_name = (&found.cluster_id, &found.namespace, &found.name)
        == (&owner.cluster_id, &owner.namespace, &owner.name);
    if same_name {
        Verdict::OursFormerLife
    } else {
        Verdict::Foreign(found.to_string())
    }
}

/// Puts our mark in the place of the one that is there, and leaves the rest of the text alone.
pub fn replace(description: &str, owner: &Owner) -> String {
    match span(description) {
        Some((start, end)) => format!("{}{}{}", &description[..start], line(owner), &description[end..]),
        None => description.to_owned(),
    }
}

/// Reads the owner out of a description; of several marks the last counts, as ours is the last line.
pub fn parse(description: &str) -> Option<Owner> {
    let (start, end) = span(description)?;
    let inner = &description[start + OPENING.len()..end - 1];
    let mut parts = inner.split(' ');
    let mut next = |key: &str| parts.next()?.strip_prefix(key)?.strip_prefix('=').map(decode);
    Some(Owner {
        cluster_id: next("cluster")?,
        namespace: next("namespace")?,
        name: next("name")?,
        uid: next("uid")?,
    })
}

fn span(description: &str) -> Option<(usize, usize)> {
    let start = description.rfind(OPENING)?;
    let end = start + description[start..].find(']')? + 1;
    Some((start, end))
}

/// The display name of a subscription: who owns it and, where we chose its key, a print of that key, so that a
/// changed key is seen without asking the service for it (reading keys counts as a write).
pub fn label(owner: &Owner, key_print: Option<&str>) -> String {
    let name: String = encode(&owner.name).chars().take(LABEL_NAME).collect();
    let mut label = format!("{LABEL}{name} {} {}", owner_hash(owner), uid_part(owner));
    if let Some(print) = key_print {
        label.push(' ');
        label.push_str(print);
    }
    label
}

/// Judges the display name of a subscription.
pub fn judge_label(display_name: Option<&str>, owner: &Owner) -> Verdict {
    let Some(rest) = display_name.and_then(|text| text.strip_prefix(LABEL)) else {
        return Verdict::Unmarked;
    };
    let mut parts = rest.split(' ');
    let (Some(name), Some(hash), Some(uid)) = (parts.next(), parts.next(), parts.next()) else {
        return Verdict::Unmarked;
    };
    if hash != owner_hash(owner) {
        return Verdict::Foreign(format!("another owner named {name}"));
    }
    if uid == uid_part(owner) {
        Verdict::Ours
    } else {
        Verdict::OursFormerLife
    }
}

/// Eight characters that differ when the key differs. The key has 256 random bits, so they give nothing away.
pub fn key_print(key: &str) -> String {
    short_hash(&["subscription key", key], 8)
}

fn owner_hash(owner: &Owner) -> String {
    short_hash(&[&owner.cluster_id, &owner.namespace, &owner.name], OWNER_HASH)
}

/// A uid as Kubernetes makes them has 36 characters; a longer one must not push the label over its limit.
fn uid_part(owner: &Owner) -> String {
    let uid = encode(&owner.uid);
    if uid.is_empty() || uid.len() > 36 {
        short_hash(&["uid", &owner.uid], 36)
    } else {
        uid
    }
}

fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_') {
            encoded.push(char::from(byte));
        } else {
            encoded.push('%');
            encoded.push_str(&hex::encode_upper([byte]));
        }
    }
    encoded
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let escaped = (first == b'%')
            .then(|| tail.get(..2))
            .flatten()
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        if let Some(byte) = escaped {
            bytes.push(byte);
            rest = &tail[2..];
        } else {
            bytes.push(first);
            rest = tail;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn owner() -> Owner {
        Owner {
            cluster_id: "demo".into(),
            namespace: "tools".into(),
            name: "weather".into(),
            uid: "4fd0f1a2-0001-4000-8000-00000000000a".into(),
        }
    }

    fn with(change: impl FnOnce(&mut Owner)) -> Owner {
        let mut owner = owner();
        change(&mut owner);
        owner
    }

    #[test]
    fn each_owner_is_judged() {
        let description = describe(Some("Weather for the US"), &owner(), 2000);
        assert_eq!(
            description,
            "Weather for the US\n\n[mcp-fleet cluster=demo namespace=tools name=weather \
             uid=4fd0f1a2-0001-4000-8000-00000000000a]"
        );
        let later = with(|owner| owner.uid = "other".into());
        let neighbour = with(|owner| owner.namespace = "payments".into());
        let cluster = with(|owner| owner.cluster_id = "prod".into());
        let cases = [
            (Some(description.as_str()), owner(), Verdict::Ours),
            (Some(description.as_str()), later, Verdict::OursFormerLife),
            (
                Some(description.as_str()),
                neighbour,
                Verdict::Foreign("tools/weather of cluster demo".into()),
            ),
            (
                Some(description.as_str()),
                cluster,
                Verdict::Foreign("tools/weather of cluster demo".into()),
            ),
            (Some("Weather"), owner(), Verdict::Unmarked),
            (Some("[mcp-fleet cluster=demo"), owner(), Verdict::Unmarked),
            (None, owner(), Verdict::Unmarked),
        ];
        for (text, owner, verdict) in cases {
            assert_eq!(judge(text, &owner), verdict, "{text:?} {owner}");
        }
    }

    #[test]
    fn labels_are_judged_and_fit() {
        let long = with(|owner| {
            owner.name = "w".repeat(63);
            owner.uid = "u".repeat(64);
        });
        assert!(label(&long, Some("12345678")).len() <= 100);
        let shown = label(&owner(), Some(&key_print("key")));
        assert_eq!(judge_label(Some(&shown), &owner()), Verdict::Ours);
        assert_eq!(
            judge_label(Some(&shown), &with(|owner| owner.uid = "other".into())),
            Verdict::OursFormerLife
        );
        assert!(matches!(
            judge_label(Some(&shown), &with(|owner| owner.name = "x".into())),
            Verdict::Foreign(_)
        ));
        assert_eq!(
            judge_label(Some("Subscription for all APIs"), &owner()),
            Verdict::Unmarked
        );
        assert_ne!(
            label(&owner(), Some(&key_print("key"))),
            label(&owner(), Some(&key_print("other")))
        );
    }

    #[test]
    fn a_replaced_mark_keeps_the_text_around_it() {
        let former = with(|owner| owner.uid = "former".into());
        let edited = format!("Edited by hand.\n\n{}\nSee the wiki.", line(&former));
        assert_eq!(
            replace(&edited, &owner()),
            format!("Edited by hand.\n\n{}\nSee the wiki.", line(&owner()))
        );
    }

    #[test]
    fn a_mark_pasted_into_the_text_does_not_win() {
        let stranger = with(|owner| owner.name = "stranger".into());
        let description = describe(Some(&line(&stranger)), &owner(), 2000);
        assert_eq!(judge(Some(&description), &owner()), Verdict::Ours);
    }

    proptest! {
        #[test]
        fn any_owner_survives(cluster in ".{0,40}", namespace in ".{1,63}", name in ".{1,63}", uid in ".{1,40}", text in ".{0,300}") {
            let owner = Owner { cluster_id: cluster, namespace, name, uid };
            let description = describe(Some(&text), &owner, 2000);
            prop_assert_eq!(judge(Some(&description), &owner), Verdict::Ours);
            prop_assert!(label(&owner, Some("12345678")).len() <= 100);
            prop_assert_eq!(judge_label(Some(&label(&owner, None)), &owner), Verdict::Ours);
        }
    }
}
