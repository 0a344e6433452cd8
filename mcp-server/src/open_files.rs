//! The limit of open files: every connection is one. The soft limit, often 1024, is raised to the hard one.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files beside connections: listeners, the log, connections to the weather service and to other replicas.
const OTHER_FILES: u64 = 512;

/// Raise the limit, and say so when it is still too low for `connections`, streams among them.
pub fn raise_limit(connections: usize) {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let raised = Rlimit {
            current: limit.maximum,
            ..limit
        };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            tracing::warn!(%error, "failed to raise the limit of open files");
        }
    }
    let wanted = u64::try_from(connections)
        .unwrap_or(u64::MAX)
        .saturating_add(OTHER_FILES);
    // None is no limit at all.
    if let Some(files) = getrlimit(Resource::Nofile).current
        && files < wanted
    {
        tracing::warn!(
            files,
            wanted,
            "fewer files may be open than MAX_CONNECTIONS and MAX_STREAMS need: raise the limit of the container runtime, or lower them"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        raise_limit(1);
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
    }
}
