//! What only the gateway knows: a file and a request's headers go in, and whether the request came through the gateway comes out.
//!
//! Without it, whoever reaches the Service's address goes round the gateway's authentication. Only digests are kept and compared,
//! in constant time, so neither memory nor timing tells the secret.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{Digest, SHA256, digest};
use http::{HeaderMap, HeaderName};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

/// How often the file is looked at. The kubelet needs about a minute to bring a changed Secret anyway.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// A shorter one could be guessed.
const MIN_BYTES: usize = 16;

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
    accepted: RwLock<Arc<Vec<Digest>>>,
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
            verify_slices_are_equal(known.as_ref(), sent.as_ref()).is_ok() | is_known
        })
    }

    fn accepted(&self) -> Arc<Vec<Digest>> {
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
            .map(Digest::as_ref)
            .eq(self.accepted().iter().map(Digest::as_ref));
        if !same {
            *self.accepted.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(read);
        }
        Ok(!same)
    }
}

fn read_both(file: &Path) -> Result<Vec<Digest>, SecretError> {
    let mut digests = vec![read(file)?];
    match read(&file.with_file_name("previous")) {
        Ok(previous) => digests.push(previous),
        Err(SecretError::Read { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    Ok(digests)
}

fn read(path: &Path) -> Result<Digest, SecretError> {
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
    Ok(digest(&SHA256, secret))
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
