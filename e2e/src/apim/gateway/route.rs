//! Finds the API and the operation of a request.
//! In: the world, a method and a path. Out: the API behind the longest path, and the operation whose template and
//! method fit, literal segments before parameters.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::Method;

use crate::apim::store::{Document, World};

#[derive(Debug)]
pub(super) struct Route {
    pub(super) api: Arc<Document>,
    /// Path below the API's, with its leading slash.
    pub(super) rest: String,
}

pub(super) fn find_api(world: &World, path: &str) -> Option<Route> {
    let (found, api) = world.api_for_path(path)?;
    let rest = &path.trim_start_matches('/')[found.len()..];
    let rest = if rest.starts_with('/') {
        rest.to_owned()
    } else {
        format!("/{rest}")
    };
    Some(Route {
        api: Arc::clone(api),
        rest,
    })
}

pub(super) type Parameters = BTreeMap<String, String>;

pub(super) fn find_operation(
    world: &World,
    api: &Document,
    method: &Method,
    rest: &str,
) -> Option<(Arc<Document>, Parameters)> {
    let fitting = world
        .members(&format!("{}/operations", api.id))
        .filter_map(|operation| {
            let template = operation.text("urlTemplate")?;
            let same_method = operation
                .text("method")
                .is_some_and(|name| name.eq_ignore_ascii_case(method.as_str()));
            let (parameters, literals) = fit(template, rest).filter(|_| same_method)?;
            Some((operation, parameters, literals))
        });
    fitting
        .max_by_key(|(_, _, literals)| *literals)
        .map(|(operation, parameters, _)| (Arc::clone(operation), parameters))
}

/// Parameters and the number of literal segments when the template fits. Literals ignore case; `*` at the end takes
/// the rest.
fn fit(template: &str, rest: &str) -> Option<(Parameters, usize)> {
    let template = template.split('?').next().unwrap_or_default();
    let wanted: Vec<&str> = template.trim_matches('/').split('/').collect();
    let given: Vec<&str> = rest.trim_matches('/').split('/').collect();
    let mut parameters = Parameters::new();
    let mut literals = 0;
    for (at, part) in wanted.iter().enumerate() {
        if *part == "*" {
            return Some((parameters, literals));
        }
        let segment = *given.get(at)?;
        if let Some(name) = part.strip_prefix('{').and_then(|name| name.strip_suffix('}')) {
            if let Some(name) = name.strip_prefix('*') {
                parameters.insert(name.into(), given[at..].join("/"));
                return Some((parameters, literals));
            }
            if segment.is_empty() {
                return None;
            }
            parameters.insert(name.into(), segment.into());
        } else if part.eq_ignore_ascii_case(segment) {
            literals += 1;
        } else {
            return None;
        }
    }
    (given.len() == wanted.len()).then_some((parameters, literals))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_fit_whole_paths() {
        let fits = |template, path| {
            fit(template, path).map(|(parameters, _)| parameters.into_iter().collect::<Vec<_>>())
        };
        assert_eq!(fits("/mcp", "/MCP"), Some(vec![]));
        assert_eq!(fits("/mcp", "/mcp/"), Some(vec![]));
        assert_eq!(fits("/mcp", "/mcp/x"), None);
        assert_eq!(fits("/", "/"), Some(vec![]));
        assert_eq!(
            fits("/messages/{id}", "/messages/a-1"),
            Some(vec![("id".into(), "a-1".into())])
        );
        assert_eq!(fits("/messages/{id}", "/messages/"), None);
        assert_eq!(fits("/*", "/a/b"), Some(vec![]));
        assert_eq!(
            fits("/f/{*rest}", "/f/a/b"),
            Some(vec![("rest".into(), "a/b".into())])
        );
    }
}
