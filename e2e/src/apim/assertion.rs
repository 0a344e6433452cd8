//! Checks the service-account token that a workload presents, as Entra does for a federated credential.
//! In: the token, the cluster's keys, and what the credential names. Out: nothing, or the refusal.

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde::Deserialize;

use super::config::Config;
use super::state::Shared;
use super::token::{Denied, denied};

#[derive(Debug, Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    aud: Audiences,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Audiences {
    One(String),
    Many(Vec<String>),
}

fn bad_signature(what: &str) -> Denied {
    denied(
        "invalid_client",
        700_027,
        format!("Client assertion failed signature validation. {what}"),
    )
}

pub(super) async fn check(shared: &Shared, token: &str) -> Result<(), Denied> {
    let header = decode_header(token)
        .map_err(|_| denied("invalid_request", 50027, "JWT token is invalid or malformed."))?;
    if header.alg != Algorithm::RS256 {
        return Err(bad_signature("Only RS256 is supported."));
    }
    let found = shared.keys.find(header.kid.as_deref()).await.map_err(|error| {
        tracing::warn!(error = format!("{error:#}"), "failed to read the cluster's keys");
        denied(
            "invalid_request",
            50166,
            "Request to External OIDC endpoint failed.",
        )
    })?;
    let (key, issuer) = found.ok_or_else(|| bad_signature("The key was not found."))?;
    let key = DecodingKey::from_jwk(&key).map_err(|error| bad_signature(&error.to_string()))?;
    let mut validation = Validation::new(Algorithm::RS256);
    // Compared below, where a mismatch has a number of its own.
    validation.validate_aud = false;
    validation.validate_nbf = true;
    validation.leeway = 0;
    let token = decode::<Claims>(token, &key, &validation).map_err(|error| match error.kind() {
        ErrorKind::ExpiredSignature | ErrorKind::ImmatureSignature => denied(
            "invalid_client",
            700_024,
            "Client assertion is not within its valid time range.",
        ),
        _ => bad_signature(""),
    })?;
    let issuer = shared.config.issuer.clone().or(issuer);
    matches_credential(&token.claims, &shared.config, issuer.as_deref())
}

fn matches_credential(claims: &Claims, config: &Config, issuer: Option<&str>) -> Result<(), Denied> {
    let no_record = |number, what: &str, value: &str| {
        let text =
            format!("No matching federated identity record found for presented assertion {what} '{value}'.");
        Err(denied("invalid_client", number, text))
    };
    if issuer.is_some_and(|issuer| issuer != claims.iss) {
        return no_record(700_211, "issuer", &claims.iss);
    }
    let audiences = match &claims.aud {
        Audiences::One(audience) => std::slice::from_ref(audience),
        Audiences::Many(audiences) => audiences,
    };
    if !audiences.contains(&config.federated_audience) {
        return no_record(700_212, "audience", &audiences.join(" "));
    }
    if claims.sub != config.subject {
        return no_record(700_213, "subject", &claims.sub);
    }
    Ok(())
}
