//! Image: packs programs into a container image, without a container engine.
//!
//! In: files, entrypoint, environment, labels. Out: an OCI image archive of one layer, the same bytes for the same input
//! (OCI image layout 1.1; the annotation `io.containerd.image.name` is what containerd imports it as).

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::cluster::packages;

/// The user that every image runs as; `runAsNonRoot` wants a number.
pub const USER: u32 = 65532;
const HOST_CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";
const PASSWD: &str =
    "root:x:0:0:root:/root:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/tmp:/sbin/nologin\n";
const GROUP: &str = "root:x:0:\nnonroot:x:65532:\n";

/// What goes into an image.
#[derive(Debug, Clone, Default)]
pub struct ImageSpec {
    /// Repository, with or without registry: `mcp-weather`, `local/pause`, `registry.example/team/app`.
    pub name: String,
    pub tag: String,
    pub files: Vec<ImageFile>,
    pub entrypoint: Vec<String>,
    pub env: BTreeMap<String, String>,
    pub labels: BTreeMap<String, String>,
}

impl ImageSpec {
    /// The full name that containerd knows the image by (`mcp-weather` is `docker.io/library/mcp-weather`).
    pub fn reference(&self) -> String {
        let name = match self.name.split_once('/') {
            None => format!("docker.io/library/{}", self.name),
            Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => self.name.clone(),
            Some(_) => format!("docker.io/{}", self.name),
        };
        format!("{name}:{}", self.tag)
    }
}

/// One file of an image.
#[derive(Debug, Clone)]
pub struct ImageFile {
    /// Absolute path in the image.
    pub path: String,
    pub content: FileContent,
    pub mode: u32,
}

impl ImageFile {
    /// A file of the host as an executable.
    pub fn program(path: impl Into<String>, source: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            content: FileContent::Host(source.into()),
            mode: 0o755,
        }
    }

    /// Bytes as a file that everyone may read.
    pub fn data(path: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Self {
        Self {
            path: path.into(),
            content: FileContent::Bytes(bytes.into()),
            mode: 0o644,
        }
    }
}

/// Where a file's bytes come from.
#[derive(Debug, Clone)]
pub enum FileContent {
    Host(PathBuf),
    Bytes(Vec<u8>),
}

/// Writes the image as an archive that `ctr images import` (and `kind load image-archive`) reads.
pub fn write_image(spec: &ImageSpec, to: &Path) -> Result<()> {
    if !Path::new(HOST_CERTIFICATES).exists() {
        packages::install(&["ca-certificates"])?;
    }
    let certificates = ImageFile {
        path: HOST_CERTIFICATES.to_owned(),
        content: FileContent::Host(HOST_CERTIFICATES.into()),
        mode: 0o644,
    };
    let mut files = vec![
        certificates,
        ImageFile::data("/etc/passwd", PASSWD),
        ImageFile::data("/etc/group", GROUP),
    ];
    files.extend(spec.files.iter().cloned());
    let archive = pack(spec, files).with_context(|| format!("failed to pack image {}", spec.reference()))?;
    // Written beside and renamed: a reader sees the whole archive or none.
    let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty());
    let mut file = tempfile::NamedTempFile::new_in(folder.unwrap_or(Path::new(".")))?;
    file.write_all(&archive)?;
    file.persist(to)
        .with_context(|| format!("failed to write {}", to.display()))?;
    Ok(())
}

fn pack(spec: &ImageSpec, files: Vec<ImageFile>) -> Result<Vec<u8>> {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let layer = Blob::new("application/vnd.oci.image.layer.v1.tar", layer(files)?);
    let config = configuration(spec, architecture, &layer)?;
    let manifest = Blob::of_json(
        "application/vnd.oci.image.manifest.v1+json",
        &json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config.descriptor(),
            "layers": [layer.descriptor()],
        }),
    )?;
    let mut described = manifest.descriptor();
    described["platform"] = json!({"architecture": architecture, "os": "linux"});
    described["annotations"] = json!({
        "io.containerd.image.name": spec.reference(),
        "org.opencontainers.image.ref.name": spec.tag,
    });
    let index = serde_json::to_vec(&json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [described],
    }))?;

    let mut archive = tar::Builder::new(Vec::new());
    append(
        &mut archive,
        "oci-layout",
        br#"{"imageLayoutVersion":"1.0.0"}"#,
        0o644,
    )?;
    append(&mut archive, "index.json", &index, 0o644)?;
    for blob in [&manifest, &config, &layer] {
        append(
            &mut archive,
            &format!("blobs/{}", blob.digest.replace(':', "/")),
            &blob.bytes,
            0o644,
        )?;
    }
    Ok(archive.into_inner()?)
}

/// How the image runs.
fn configuration(spec: &ImageSpec, architecture: &str, layer: &Blob) -> Result<Blob> {
    let path = ("PATH", "/usr/local/bin:/usr/bin:/bin");
    let own = spec
        .env
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()));
    let env: Vec<_> = std::iter::once(path)
        .chain(own)
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    Blob::of_json(
        "application/vnd.oci.image.config.v1+json",
        &json!({
            "architecture": architecture,
            "os": "linux",
            "created": "1970-01-01T00:00:00Z",
            "config": {
                "User": USER.to_string(),
                "Env": env,
                "Entrypoint": spec.entrypoint,
                "WorkingDir": "/",
                "Labels": spec.labels,
            },
            "rootfs": {"type": "layers", "diff_ids": [layer.digest]},
            "history": [{"created": "1970-01-01T00:00:00Z", "created_by": "mcp-fleet-e2e"}],
        }),
    )
}

/// Bytes that others refer to by their digest.
struct Blob {
    media_type: &'static str,
    digest: String,
    bytes: Vec<u8>,
}

impl Blob {
    fn new(media_type: &'static str, bytes: Vec<u8>) -> Self {
        Self {
            media_type,
            digest: digest(&bytes),
            bytes,
        }
    }

    fn of_json(media_type: &'static str, document: &serde_json::Value) -> Result<Self> {
        Ok(Self::new(media_type, serde_json::to_vec(document)?))
    }

    fn descriptor(&self) -> serde_json::Value {
        json!({"mediaType": self.media_type, "digest": self.digest, "size": self.bytes.len()})
    }
}

/// The one layer: parent folders first, then files by path; every time is the epoch and every owner root.
fn layer(files: Vec<ImageFile>) -> Result<Vec<u8>> {
    let mut by_path = BTreeMap::new();
    let mut folders = BTreeSet::from(["tmp".to_owned()]);
    for file in files {
        let path = file.path.strip_prefix('/').unwrap_or_default().to_owned();
        ensure!(
            !path.is_empty(),
            "failed to add {:?}: not an absolute path",
            file.path
        );
        let parents = path.match_indices('/').map(|(end, _)| path[..end].to_owned());
        folders.extend(parents);
        by_path.insert(path, file);
    }
    let mut layer = tar::Builder::new(Vec::new());
    for folder in folders {
        let mode = if folder == "tmp" { 0o1777 } else { 0o755 };
        let mut header = header(mode, 0);
        header.set_entry_type(tar::EntryType::Directory);
        layer.append_data(&mut header, format!("{folder}/"), std::io::empty())?;
    }
    for (path, file) in by_path {
        let bytes = match file.content {
            FileContent::Bytes(bytes) => bytes,
            FileContent::Host(source) => {
                std::fs::read(&source).with_context(|| format!("failed to read {}", source.display()))?
            }
        };
        append(&mut layer, &path, &bytes, file.mode)?;
    }
    Ok(layer.into_inner()?)
}

fn append(archive: &mut tar::Builder<Vec<u8>>, path: &str, bytes: &[u8], mode: u32) -> Result<()> {
    let mut header = header(mode, u64::try_from(bytes.len())?);
    archive.append_data(&mut header, path, bytes)?;
    Ok(())
}

fn header(mode: u32, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

#[cfg(test)]
mod tests {
    use super::{ImageFile, ImageSpec, digest, pack};
    use std::collections::BTreeMap;
    use std::io::Read;

    fn spec(name: &str) -> ImageSpec {
        ImageSpec {
            name: name.into(),
            tag: "1".into(),
            entrypoint: vec!["/app".into()],
            ..ImageSpec::default()
        }
    }

    fn entries(archive: &[u8]) -> BTreeMap<String, (u32, Vec<u8>)> {
        let mut archive = tar::Archive::new(archive);
        let entries = archive.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            let path = entry.path().unwrap().display().to_string();
            (path, (entry.header().mode().unwrap(), bytes))
        });
        entries.collect()
    }

    #[test]
    fn names_become_the_references_that_containerd_uses() {
        for (name, reference) in [
            ("weather", "docker.io/library/weather:1"),
            ("local/pause", "docker.io/local/pause:1"),
            ("localhost/app", "localhost/app:1"),
            ("registry:5000/app", "registry:5000/app:1"),
            ("ghcr.io/team/app", "ghcr.io/team/app:1"),
        ] {
            assert_eq!(spec(name).reference(), reference);
        }
    }

    #[test]
    fn the_archive_is_an_image_layout_whose_digests_match() {
        let files = || vec![ImageFile::data("/usr/share/app/data", "hello")];
        let archive = pack(&spec("app"), files()).unwrap();
        assert_eq!(
            archive,
            pack(&spec("app"), files()).unwrap(),
            "the same input gives the same bytes"
        );

        let outer = entries(&archive);
        let index: serde_json::Value = serde_json::from_slice(&outer["index.json"].1).unwrap();
        let manifest = &index["manifests"][0];
        assert_eq!(
            manifest["annotations"]["io.containerd.image.name"],
            "docker.io/library/app:1"
        );
        for (path, (_, bytes)) in outer.iter().filter(|(path, _)| path.starts_with("blobs/")) {
            assert_eq!(path, &format!("blobs/{}", digest(bytes).replace(':', "/")));
        }
        let blob = |descriptor: &serde_json::Value| {
            let digest = descriptor["digest"].as_str().unwrap();
            outer[&format!("blobs/{}", digest.replace(':', "/"))].1.clone()
        };
        let manifest: serde_json::Value = serde_json::from_slice(&blob(manifest)).unwrap();
        let config: serde_json::Value = serde_json::from_slice(&blob(&manifest["config"])).unwrap();
        assert_eq!(config["config"]["User"], "65532");
        let layer = entries(&blob(&manifest["layers"][0]));
        assert_eq!(layer["usr/share/app/data"], (0o644, b"hello".to_vec()));
        assert_eq!(layer["tmp/"].0, 0o1777);
        assert!(
            layer.contains_key("usr/share/"),
            "parents are there: {:?}",
            layer.keys()
        );
    }

    #[test]
    fn a_relative_path_is_refused() {
        assert!(pack(&spec("app"), vec![ImageFile::data("app", "x")]).is_err());
    }
}
