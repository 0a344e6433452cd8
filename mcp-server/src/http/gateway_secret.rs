//! What only the gateway knows: a file and a request's headers go in, and whether the request came through the gateway comes out.
//!
//! Without it, whoever reaches the Service's address goes round the gateway's authentication. Only digests are compared, in constant
//! time, so timing does not tell the secret. With the secret the gateway also signs who calls, and when it said so.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{Digest, SHA256, digest};
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::{HeaderMap, HeaderName};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How often the file is looked at. The kubelet needs about a minute to bring a changed Secret anyway.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// A shorter one could be guessed.
const MIN_BYTES: usize = 16;

/// When the gateway said who calls, in seconds since 1970.
pub const CALLER_TIME: &str = "x-mcp-caller-time";
/// Base64 of the HMAC-SHA256, with the secret as key, of the caller's name as it is in its header, a newline and that time.
pub const CALLER_SIGNATURE: &str = "x-mcp-caller-signature";
/// What clocks may differ by, and what a request may take from the gateway to here. Beyond it a recorded signature is of no use.
const CALLER_AGE: Duration = Duration::from_mins(5);

/// Why there is no secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// A file cannot be read.
    #[error("failed to read the gateway's secret {}", path.display())]
    Read {
        /// GATEWAY_SECRET_FILE or its sibling `previous`.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file is too short.
    #[error("the gateway's secret {} is shorter than {MIN_BYTES} bytes", path.display())]
    Short {
        /// GATEWAY_SECRET_FILE or its sibling `previous`.
        path: PathBuf,
    },
}

/// The secret, kept up to date.
pub struct GatewaySecret {
    header: HeaderName,
    file: PathBuf,
    accepted: RwLock<Arc<Vec<Accepted>>>,
}

/// One secret, for its two uses.
struct Accepted {
    digest: Digest,
    sign: hmac::Key,
}

impl fmt::Debug for GatewaySecret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "GatewaySecret({}: ..)", self.header)
    }
}

impl GatewaySecret {
    /// The secret in `file`, and the one in its sibling `previous` if there is one; each is sent in `header`.
    pub fn from_file(file: &Path, header: HeaderName) -> Result<GatewaySecret, SecretError> {
        Ok(GatewaySecret {
            header,
            accepted: RwLock::new(Arc::new(read_both(file)?)),
            file: file.to_owned(),
        })
    }

    /// Whether a request carries it, once.
    pub fn is_in(&self, headers: &HeaderMap) -> bool {
        let mut values = headers.get_all(&self.header).iter();
        let (Some(value), None) = (values.next(), values.next()) else {
            return false;
        };
        let sent = digest(&SHA256, value.as_bytes());
        // Every one is compared, so that the time does not tell which one it was.
        self.accepted().iter().fold(false, |is_known, known| {
            verify_slices_are_equal(known.digest.as_ref(), sent.as_ref()).is_ok() | is_known
        })
    }

    /// Whether the gateway has signed, not long ago, that `caller` calls.
    pub fn has_signed(&self, headers: &HeaderMap, caller: &[u8], now: SystemTime) -> bool {
        let one = |name: &str| {
            let mut values = headers.get_all(name).iter();
            match (values.next(), values.next()) {
                (Some(value), None) => value.to_str().ok(),
                _ => None,
            }
        };
        let (Some(time), Some(signature)) = (one(CALLER_TIME), one(CALLER_SIGNATURE)) else {
            return false;
        };
        let said = time.parse::<u64>().map(Duration::from_secs);
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        if !said.is_ok_and(|said| now.abs_diff(said) <= CALLER_AGE) {
            return false;
        }
        let Ok(signature) = BASE64_STANDARD.decode(signature) else {
            return false;
        };
        let text = [caller, b"\n", time.as_bytes()].concat();
        // Compares in constant time.
        let accepted = self.accepted();
        accepted
            .iter()
            .any(|known| hmac::verify(&known.sign, &text, &signature).is_ok())
    }

    fn accepted(&self) -> Arc<Vec<Accepted>> {
        Arc::clone(&self.accepted.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Look at the file for ever. An unreadable file changes nothing.
    pub async fn watch(self: Arc<Self>) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let secret = Arc::clone(&self);
            match tokio::task::spawn_blocking(move || secret.look()).await {
                Ok(Ok(true)) => tracing::info!("the gateway's secret changed"),
                Ok(Err(error)) => tracing::warn!(%error, "kept the gateway's secret that was in use"),
                Ok(Ok(false)) | Err(_) => {}
            }
        }
    }

    /// Read the file again; whether it changed.
    pub fn look(&self) -> Result<bool, SecretError> {
        let read = read_both(&self.file)?;
        let same = read
            .iter()
            .map(|known| known.digest.as_ref())
            .eq(self.accepted().iter().map(|known| known.digest.as_ref()));
        if !same {
            *self.accepted.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(read);
        }
        Ok(!same)
    }
}

fn read_both(file: &Path) -> Result<Vec<Accepted>, SecretError> {
    let mut accepted = vec![read(file)?];
    match read(&file.with_file_name("previous")) {
        Ok(previous) => accepted.push(previous),
        Err(SecretError::Read { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    Ok(accepted)
}

fn read(path: &Path) -> Result<Accepted, SecretError> {
    let secret = std::fs::read(path).map_err(|source| SecretError::Read {
        path: path.to_owned(),
        source,
    })?;
    // A text editor or `echo` leaves a newline behind, and a header has no spaces at its ends.
    let secret = secret.trim_ascii();
    if secret.len() < MIN_BYTES {
        return Err(SecretError::Short {
            path: path.to_owned(),
        });
    }
    Ok(Accepted {
        digest: digest(&SHA256, secret),
        sign: hmac::Key::new(hmac::HMAC_SHA256, secret),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: HeaderName = HeaderName::from_static("x-gateway-secret");
    const OLD: &str = "the-first-secret-of-the-gateway";
    const NEW: &str = "another-secret-of-the-gateway";

    fn takes(secret: &GatewaySecret, values: &[&str]) -> bool {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(HEADER, value.parse().unwrap());
        }
        secret.is_in(&headers)
    }

    #[test]
    fn exactly_one_right_value_is_taken() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("current");
        std::fs::write(&file, format!("{OLD}\n")).unwrap();
        let secret = GatewaySecret::from_file(&file, HEADER).unwrap();
        assert!(takes(&secret, &[OLD]));
        let longer = format!("{OLD}x");
        for wrong in [
            &[][..],
            &[""],
            &[NEW],
            &[&OLD[1..]],
            &[&longer],
            &[OLD, OLD],
            &[OLD, NEW],
        ] {
            assert!(!takes(&secret, wrong), "{wrong:?}");
        }
        assert!(!format!("{secret:?}").contains(OLD));
    }

    /// As a policy expression of the gateway does it.
    fn signed(secret: &str, caller: &str, time: &str) -> HeaderMap {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        let tag = hmac::sign(&key, format!("{caller}\n{time}").as_bytes());
        let mut headers = HeaderMap::new();
        headers.insert(CALLER_TIME, time.parse().unwrap());
        headers.insert(CALLER_SIGNATURE, BASE64_STANDARD.encode(tag).parse().unwrap());
        headers
    }

    #[test]
    fn a_caller_is_who_the_gateway_signed_lately() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("current");
        std::fs::write(&file, NEW).unwrap();
        std::fs::write(directory.path().join("previous"), OLD).unwrap();
        let secret = GatewaySecret::from_file(&file, HEADER).unwrap();
        let now = UNIX_EPOCH + Duration::from_hours(500_000);
        let holds = |headers: &HeaderMap, caller: &str| secret.has_signed(headers, caller.as_bytes(), now);
        for known in [NEW, OLD] {
            for time in ["1800000000", "1799999700", "1800000300"] {
                assert!(holds(&signed(known, "team-a", time), "team-a"), "{time}");
            }
        }
        assert!(holds(&signed(NEW, "", "1800000000"), ""), "nobody is signed too");
        let right = signed(NEW, "team-a", "1800000000");
        let with = |name: &'static str, value: &str| {
            let mut headers = right.clone();
            headers.insert(name, value.parse().unwrap());
            headers
        };
        let mut twice = right.clone();
        twice.append(CALLER_SIGNATURE, right[CALLER_SIGNATURE].clone());
        for (what, headers, caller) in [
            ("another caller", right.clone(), "team-b"),
            ("no caller", right.clone(), ""),
            (
                "another secret",
                signed("a-secret-of-somebody-else", "team-a", "1800000000"),
                "team-a",
            ),
            ("too old", signed(NEW, "team-a", "1799999699"), "team-a"),
            ("too new", signed(NEW, "team-a", "1800000301"), "team-a"),
            ("another time", with(CALLER_TIME, "1800000001"), "team-a"),
            ("no time", with(CALLER_TIME, "now"), "team-a"),
            ("no base64", with(CALLER_SIGNATURE, "%"), "team-a"),
            (
                "another signature",
                with(CALLER_SIGNATURE, &BASE64_STANDARD.encode([7; 32])),
                "team-a",
            ),
            ("a cut signature", with(CALLER_SIGNATURE, ""), "team-a"),
            ("two signatures", twice, "team-a"),
            ("nothing", HeaderMap::new(), "team-a"),
        ] {
            assert!(!holds(&headers, caller), "{what}");
        }
    }

    #[test]
    fn a_rotation_is_noticed_and_the_previous_one_taken_meanwhile() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("current");
        std::fs::write(&file, OLD).unwrap();
        let secret = GatewaySecret::from_file(&file, HEADER).unwrap();
        assert!(!secret.look().unwrap());
        std::fs::write(&file, NEW).unwrap();
        std::fs::write(directory.path().join("previous"), OLD).unwrap();
        assert!(secret.look().unwrap());
        assert!(takes(&secret, &[NEW]) && takes(&secret, &[OLD]));
        std::fs::remove_file(directory.path().join("previous")).unwrap();
        assert!(secret.look().unwrap());
        assert!(takes(&secret, &[NEW]) && !takes(&secret, &[OLD]));
        for broken in ["", "short"] {
            std::fs::write(&file, broken).unwrap();
            assert!(matches!(secret.look(), Err(SecretError::Short { .. })));
        }
        std::fs::remove_file(&file).unwrap();
        assert!(matches!(secret.look(), Err(SecretError::Read { .. })));
        assert!(takes(&secret, &[NEW]), "a broken file changes nothing");
    }
}
