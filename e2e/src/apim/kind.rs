//! The resource types that the stand-in knows, and what a path below the service means.
//! In: path segments. Out: the type, the canonical relative id, and which verbs it answers.

use http::Method;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Kind {
    Backend,
    Api,
    Operation,
    ApiPolicy,
    OperationPolicy,
    GlobalPolicy,
    Product,
    ProductPolicy,
    ProductApi,
    ProductApiLink,
    ProductGroup,
    Subscription,
    Tag,
    ApiTag,
    OperationTag,
    ProductTag,
    NamedValue,
    Diagnostic,
    VersionSet,
    Fragment,
    Group,
    Revision,
    Release,
    ApiProduct,
    ProductSubscription,
}

/// Path below the service with `*` for names, and the type's name in the singular as error messages say it.
const TABLE: &[(Kind, &str, &str)] = &[
    (Kind::Backend, "backends/*", "Backend"),
    (Kind::Api, "apis/*", "Api"),
    (Kind::Operation, "apis/*/operations/*", "Operation"),
    (Kind::ApiPolicy, "apis/*/policies/*", "Policy"),
    (Kind::OperationPolicy, "apis/*/operations/*/policies/*", "Policy"),
    (Kind::GlobalPolicy, "policies/*", "Policy"),
    (Kind::Product, "products/*", "Product"),
    (Kind::ProductPolicy, "products/*/policies/*", "Policy"),
    (Kind::ProductApi, "products/*/apis/*", "Api"),
    (Kind::ProductApiLink, "products/*/apiLinks/*", "ApiLink"),
    (Kind::ProductGroup, "products/*/groups/*", "Group"),
    (Kind::Subscription, "subscriptions/*", "Subscription"),
    (Kind::Tag, "tags/*", "Tag"),
    (Kind::ApiTag, "apis/*/tags/*", "Tag"),
    (Kind::OperationTag, "apis/*/operations/*/tags/*", "Tag"),
    (Kind::ProductTag, "products/*/tags/*", "Tag"),
    (Kind::NamedValue, "namedValues/*", "NamedValue"),
    (Kind::Diagnostic, "diagnostics/*", "Diagnostic"),
    (Kind::VersionSet, "apiVersionSets/*", "ApiVersionSet"),
    (Kind::Fragment, "policyFragments/*", "PolicyFragment"),
    (Kind::Group, "groups/*", "Group"),
    (Kind::Revision, "apis/*/revisions/*", "Revision"),
    (Kind::Release, "apis/*/releases/*", "Release"),
    (Kind::ApiProduct, "apis/*/products/*", "Product"),
    (
        Kind::ProductSubscription,
        "products/*/subscriptions/*",
        "Subscription",
    ),
];

impl Kind {
    fn row(self) -> &'static (Kind, &'static str, &'static str) {
        TABLE.iter().find(|row| row.0 == self).unwrap_or(&TABLE[0])
    }

    pub(crate) fn noun(self) -> &'static str {
        self.row().2
    }

    /// Type below the service, such as `apis/operations`.
    pub(crate) fn type_path(self) -> String {
        self.row()
            .1
            .split('/')
            .filter(|part| *part != "*")
            .collect::<Vec<_>>()
            .join("/")
    }

    /// Key of the table of limits (facts/resources.json); types that share a contract share an entry.
    pub(crate) fn limits_key(self) -> &'static str {
        match self {
            Kind::Backend => "backends",
            Kind::Api | Kind::Revision | Kind::Release => "apis",
            Kind::Operation => "apis/operations",
            Kind::ApiPolicy | Kind::OperationPolicy | Kind::GlobalPolicy | Kind::ProductPolicy => {
                "apis/policies"
            }
            Kind::Product | Kind::ApiProduct => "products",
            Kind::ProductApi => "products/apis",
            Kind::ProductApiLink => "products/apiLinks",
            Kind::ProductGroup => "products/groups",
            Kind::Subscription | Kind::ProductSubscription => "subscriptions",
            Kind::Tag => "tags",
            Kind::ApiTag | Kind::OperationTag | Kind::ProductTag => "apis/tags",
            Kind::NamedValue => "namedValues",
            Kind::Diagnostic => "diagnostics",
            Kind::VersionSet => "apiVersionSets",
            Kind::Fragment => "policyFragments",
            Kind::Group => "groups",
        }
    }

    pub(crate) fn is_policy(self) -> bool {
        matches!(
            self,
            Kind::ApiPolicy | Kind::OperationPolicy | Kind::GlobalPolicy | Kind::ProductPolicy
        )
    }

    /// Assigning a tag, a group or an API: a PUT without content.
    pub(crate) fn is_association(self) -> bool {
        matches!(
            self,
            Kind::ProductApi | Kind::ProductGroup | Kind::ApiTag | Kind::OperationTag | Kind::ProductTag
        )
    }

    pub(crate) fn allows(self, method: &Method) -> bool {
        let verbs: &[Method] = match self {
            Kind::ProductApi | Kind::ProductGroup => &[Method::HEAD, Method::PUT, Method::DELETE],
            Kind::ProductApiLink => &[Method::GET, Method::PUT, Method::DELETE],
            Kind::Revision | Kind::Release | Kind::ApiProduct | Kind::ProductSubscription => &[],
            kind if kind.is_policy() || kind.is_association() || kind == Kind::Fragment => {
                &[Method::HEAD, Method::GET, Method::PUT, Method::DELETE]
            }
            _ => &[
                Method::HEAD,
                Method::GET,
                Method::PUT,
                Method::PATCH,
                Method::DELETE,
            ],
        };
        verbs.contains(method)
    }

    /// Value of the `Allow` header for a verb that is not answered.
    pub(crate) fn verbs(self) -> String {
        let all = [
            Method::HEAD,
            Method::GET,
            Method::PUT,
            Method::PATCH,
            Method::DELETE,
        ];
        let allowed: Vec<_> = all
            .iter()
            .filter(|verb| self.allows(verb))
            .map(Method::as_str)
            .collect();
        allowed.join(",")
    }
}

/// What the segments below the service name mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Service,
    /// `id` is the collection's path, such as `apis/weather/operations`.
    Collection {
        kind: Kind,
        id: String,
    },
    Entity {
        kind: Kind,
        id: String,
    },
    /// A POST on an entity, such as `listSecrets`.
    Verb {
        kind: Kind,
        id: String,
        verb: String,
    },
    OperationResult {
        id: String,
    },
}

/// Reads a path below the service. Segments are already percent-decoded.
pub(crate) fn parse(segments: &[String]) -> Option<Target> {
    if segments.is_empty() {
        return Some(Target::Service);
    }
    if let [tenant, results, id] = segments
        && tenant.eq_ignore_ascii_case("tenant")
        && results.eq_ignore_ascii_case("operationResults")
    {
        return Some(Target::OperationResult { id: id.clone() });
    }
    TABLE.iter().find_map(|(kind, pattern, _)| {
        let parts: Vec<&str> = pattern.split('/').collect();
        let fits = |wanted: usize| {
            wanted <= segments.len()
                && parts[..wanted.min(parts.len())]
                    .iter()
                    .zip(segments)
                    .all(|(part, segment)| *part == "*" || part.eq_ignore_ascii_case(segment))
        };
        let canonical = |count: usize| {
            let named = parts[..count].iter().zip(segments);
            let spelled = named.map(|(part, segment)| if *part == "*" { segment.as_str() } else { part });
            spelled.map(str::to_owned).collect::<Vec<_>>().join("/")
        };
        let full = parts.len();
        if segments.len() == full && fits(full) {
            Some(Target::Entity {
                kind: *kind,
                id: canonical(full),
            })
        } else if segments.len() + 1 == full && fits(full - 1) {
            Some(Target::Collection {
                kind: *kind,
                id: canonical(full - 1),
            })
        } else if segments.len() == full + 1 && fits(full) && is_verb(&segments[full]) {
            Some(Target::Verb {
                kind: *kind,
                id: canonical(full),
                verb: segments[full].clone(),
            })
        } else {
            None
        }
    })
}

fn is_verb(segment: &str) -> bool {
    [
        "listSecrets",
        "listValue",
        "regeneratePrimaryKey",
        "regenerateSecondaryKey",
        "reconnect",
    ]
    .iter()
    .any(|verb| verb.eq_ignore_ascii_case(segment))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &str) -> Option<Target> {
        parse(
            &path
                .split('/')
                .filter(|part| !part.is_empty())
                .map(str::to_owned)
                .collect::<Vec<_>>(),
        )
    }

    #[test]
    fn paths_have_one_meaning() {
        let entity = |kind, id: &str| Some(Target::Entity { kind, id: id.into() });
        assert_eq!(read("Apis/weather"), entity(Kind::Api, "apis/weather"));
        assert_eq!(
            read("apis/w/operations/o/policies/policy"),
            entity(Kind::OperationPolicy, "apis/w/operations/o/policies/policy")
        );
        assert_eq!(
            read("subscriptions/s/listSecrets"),
            Some(Target::Verb {
                kind: Kind::Subscription,
                id: "subscriptions/s".into(),
                verb: "listSecrets".into()
            })
        );
        assert_eq!(
            read("apis/w/operations"),
            Some(Target::Collection {
                kind: Kind::Operation,
                id: "apis/w/operations".into()
            })
        );
        assert_eq!(
            read("tenant/operationResults/1"),
            Some(Target::OperationResult { id: "1".into() })
        );
        assert_eq!(read("nothing/here"), None);
        assert_eq!(read("apis/w/operations/o/more/than/that"), None);
    }

    #[test]
    fn product_apis_answer_no_get() {
        assert_eq!(Kind::ProductApi.verbs(), "HEAD,PUT,DELETE");
        assert!(!Kind::ApiPolicy.allows(&Method::PATCH));
    }
}
