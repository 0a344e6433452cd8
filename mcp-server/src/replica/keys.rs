//! The keys that replicas share: a file goes in, keys to seal and sign with come out, and are replaced when the file is.

use aws_lc_rs::aead::{AES_256_GCM_SIV, LessSafeKey, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use aws_lc_rs::{hmac, rand};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

/// How often the file is looked at. The kubelet needs about a minute to bring a changed Secret anyway.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// After a rotation we go on sealing with the previous key for this long, until every replica has been brought the new one.
const OVERLAP: Duration = Duration::from_mins(3);
/// Shortest file that can hold a key.
const MIN_BYTES: usize = 32;

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read.
    #[error("failed to read the replica key {}", path.display())]
    Read {
        /// REPLICA_KEY_FILE
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is too short to be a key.
    #[error("the replica key {} is shorter than {MIN_BYTES} bytes", path.display())]
    Short {
        /// REPLICA_KEY_FILE
        path: PathBuf,
    },
    /// The system has no randomness.
    #[error("failed to get random bytes from the system")]
    Random,
    /// The library refused to work.
    #[error("failed to derive or use a key")]
    Crypto,
}

/// One key, for its two uses.
pub struct Key {
    material: Vec<u8>,
    /// Seals session ids. GCM-SIV, since nonces are random and many replicas share the key.
    pub(super) seal: LessSafeKey,
    /// Signs messages between replicas.
    pub(super) sign: hmac::Key,
}

impl fmt::Debug for Key {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Key(..)")
    }
}

impl Key {
    fn derive(material: Vec<u8>) -> Result<Key, KeyError> {
        let secret = Salt::new(HKDF_SHA256, b"mcp-weather replicas 1").extract(&material);
        let expand = |purpose: &[u8]| -> Result<[u8; 32], KeyError> {
            let mut key = [0; 32];
            let purpose = [purpose];
            let expanded = secret
                .expand(&purpose, HKDF_SHA256)
                .map_err(|_| KeyError::Crypto)?;
            expanded.fill(&mut key).map_err(|_| KeyError::Crypto)?;
            Ok(key)
        };
        let seal =
            UnboundKey::new(&AES_256_GCM_SIV, &expand(b"session id")?).map_err(|_| KeyError::Crypto)?;
        let sign = hmac::Key::new(hmac::HMAC_SHA256, &expand(b"message")?);
        Ok(Key {
            seal: LessSafeKey::new(seal),
            sign,
            material,
        })
    }
}

/// The keys of one moment.
#[derive(Debug)]
pub struct KeyRing {
    current: Arc<Key>,
    previous: Option<Arc<Key>>,
    seal_with_previous_until: Option<Instant>,
}

impl KeyRing {
    /// The key that new ids and messages are made with.
    pub(super) fn outgoing(&self, now: Instant) -> &Key {
        match (&self.previous, self.seal_with_previous_until) {
            (Some(previous), Some(until)) if now < until => previous,
            _ => &self.current,
        }
    }

    /// Every key that ids and messages may have been made with.
    pub(super) fn accepted(&self) -> impl Iterator<Item = &Key> {
        std::iter::once(self.current.as_ref()).chain(self.previous.as_deref())
    }
}

/// The keys, kept up to date.
#[derive(Debug)]
pub struct Keys {
    file: Option<PathBuf>,
    ring: RwLock<Arc<KeyRing>>,
}

impl Keys {
    /// A key that nobody else has.
    pub fn random() -> Result<Keys, KeyError> {
        let mut material = vec![0; MIN_BYTES];
        rand::fill(&mut material).map_err(|_| KeyError::Random)?;
        let current = Arc::new(Key::derive(material)?);
        Ok(Keys {
            file: None,
            ring: RwLock::new(Arc::new(KeyRing {
                current,
                previous: None,
                seal_with_previous_until: None,
            })),
        })
    }

    /// The key in `file`, and the one in its sibling `previous` if there is one.
    pub fn from_file(file: &Path) -> Result<Keys, KeyError> {
        let ring = read_ring(file)?;
        Ok(Keys {
            file: Some(file.to_owned()),
            ring: RwLock::new(Arc::new(ring)),
        })
    }

    /// The keys of now.
    pub fn ring(&self) -> Arc<KeyRing> {
        Arc::clone(&self.ring.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Look at the file for ever. An unreadable file changes nothing: the keys that we have still work.
    pub async fn watch(self: Arc<Self>) {
        let Some(file) = self.file.clone() else { return };
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let keys = Arc::clone(&self);
            let looked = tokio::task::spawn_blocking(move || keys.look(Instant::now())).await;
            match looked {
                Ok(Ok(true)) => tracing::info!("replica key changed"),
                Ok(Err(error)) => {
                    tracing::warn!(%error, file = %file.display(), "kept the replica key that was in use");
                }
                Ok(Ok(false)) | Err(_) => {}
            }
        }
    }

    /// Read the file again; whether it changed.
    pub fn look(&self, now: Instant) -> Result<bool, KeyError> {
        let Some(file) = &self.file else { return Ok(false) };
        let mut read = read_ring(file)?;
        let old = self.ring();
        let same = |a: &Option<Arc<Key>>, b: &Option<Arc<Key>>| {
            a.as_ref().map(|key| &key.material) == b.as_ref().map(|key| &key.material)
        };
        if read.current.material == old.current.material && same(&read.previous, &old.previous) {
            return Ok(false);
        }
        let rotated = read
            .previous
            .as_ref()
            .is_some_and(|previous| previous.material == old.current.material);
        read.seal_with_previous_until = rotated.then(|| now + OVERLAP);
        *self.ring.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(read);
        Ok(true)
    }
}

fn read_ring(file: &Path) -> Result<KeyRing, KeyError> {
    let current = read_key(file)?.ok_or_else(|| KeyError::Read {
        path: file.to_owned(),
        source: std::io::Error::from(std::io::ErrorKind::NotFound),
    })?;
    let previous = read_key(&file.with_file_name("previous"))?;
    Ok(KeyRing {
        current,
        previous,
        seal_with_previous_until: None,
    })
}

fn read_key(path: &Path) -> Result<Option<Arc<Key>>, KeyError> {
    let mut material = match std::fs::read(path) {
        Ok(material) => material,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => {
            return Err(KeyError::Read {
                path: path.to_owned(),
                source,
            });
        }
    };
    // A text editor or `echo` leaves a newline behind.
    while material.last().is_some_and(u8::is_ascii_whitespace) {
        material.pop();
    }
    if material.len() < MIN_BYTES {
        return Err(KeyError::Short {
            path: path.to_owned(),
        });
    }
    Key::derive(material).map(|key| Some(Arc::new(key)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outgoing(keys: &Keys, now: Instant) -> Vec<u8> {
        keys.ring().outgoing(now).material.clone()
    }

    #[test]
    fn a_rotation_is_noticed_and_spreads_before_it_is_used() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("current");
        let (old, new) = ("o".repeat(32), "n".repeat(40));
        std::fs::write(&file, format!("{old}\n")).unwrap();
        let keys = Keys::from_file(&file).unwrap();
        let now = Instant::now();
        assert!(!keys.look(now).unwrap());
        std::fs::write(&file, &new).unwrap();
        std::fs::write(directory.path().join("previous"), &old).unwrap();
        assert!(keys.look(now).unwrap());
        assert_eq!(keys.ring().accepted().count(), 2);
        assert_eq!(outgoing(&keys, now), old.as_bytes());
        assert_eq!(outgoing(&keys, now + OVERLAP), new.as_bytes());
        assert!(!keys.look(now).unwrap(), "a second look changes nothing");
    }

    #[test]
    fn refuses_files_that_hold_no_key_and_keeps_what_it_has() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("current");
        assert!(matches!(Keys::from_file(&file), Err(KeyError::Read { .. })));
        std::fs::write(&file, "short\n").unwrap();
        assert!(matches!(Keys::from_file(&file), Err(KeyError::Short { .. })));
        std::fs::write(&file, "k".repeat(32)).unwrap();
        let keys = Keys::from_file(&file).unwrap();
        std::fs::remove_file(&file).unwrap();
        assert!(keys.look(Instant::now()).is_err());
        assert_eq!(outgoing(&keys, Instant::now()), "k".repeat(32).as_bytes());
    }

    #[test]
    fn debug_shows_no_key() {
        assert!(!format!("{:?}", Keys::random().unwrap()).contains("material"));
    }
}
