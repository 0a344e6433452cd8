//! The token endpoint, as Entra answers it for workload identity: a Kubernetes service-account token in exchange for
//! an access token of ARM. The service-account token is checked for real.
//! In: POST /{tenant}/oauth2/v2.0/token. Out: an access token, or an error with Entra's code.
//! Source: "Microsoft identity platform and OAuth 2.0 client credentials flow", third case (federated credential).

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::answer::{self, Answer, Cut};
use super::arm::Refusal;
use super::assertion;
use super::config::Config;
use super::fault::{Action, Plane};
use super::query::Query;
use super::state::Shared;

const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

#[derive(Debug, Serialize, Deserialize)]
struct AccessClaims {
    aud: String,
    iss: String,
    exp: i64,
    appid: String,
    tid: String,
}

/// A refusal of the token endpoint: an OAuth error and Entra's own number.
#[derive(Debug)]
pub(crate) struct Denied {
    error: &'static str,
    number: u32,
    text: String,
}

pub(crate) fn denied(error: &'static str, number: u32, text: impl Into<String>) -> Denied {
    Denied {
        error,
        number,
        text: text.into(),
    }
}

pub(crate) async fn handle(shared: &Shared, request: Request<Bytes>) -> Result<Answer, Cut> {
    let path = request.uri().path().to_owned();
    match shared.fault(Plane::Token, request.method().as_str(), &path) {
        Some(Action::Answer { status, body, .. }) => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            return Ok(answer::json(status, &body.unwrap_or(Value::Null)));
        }
        Some(Action::Hang) => tokio::time::sleep(Duration::from_hours(1)).await,
        Some(Action::CutBefore | Action::CutAfter) => return Err(Cut),
        Some(Action::Slow { millis }) => tokio::time::sleep(Duration::from_millis(millis)).await,
        Some(Action::FailOperation { .. }) | None => {}
    }
    let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
    let [tenant, "oauth2", "v2.0", "token"] = segments[..] else {
        return Ok(answer::empty(StatusCode::NOT_FOUND));
    };
    if request.method() != Method::POST {
        return Ok(answer::empty(StatusCode::METHOD_NOT_ALLOWED));
    }
    let form = Query::parse(std::str::from_utf8(request.body()).ok());
    Ok(match exchange(shared, tenant, &form).await {
        Ok(body) => {
            let mut answer = answer::json(StatusCode::OK, &body);
            answer::set(&mut answer, "cache-control", "no-store, no-cache");
            answer
        }
        Err(denied) => {
            tracing::info!(code = denied.number, reason = denied.text, "token refused");
            refuse(&denied)
        }
    })
}

fn refuse(denied: &Denied) -> Answer {
    let trace = uuid::Uuid::new_v4().to_string();
    let now = jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M:%SZ").to_string();
    let body = json!({
        "error": denied.error,
        "error_description": format!("AADSTS{}: {} Trace ID: {trace} Correlation ID: {trace} Timestamp: {now}", denied.number, denied.text),
        "error_codes": [denied.number],
        "timestamp": now,
        "trace_id": trace,
        "correlation_id": trace,
        "error_uri": format!("https://login.microsoftonline.com/error?code={}", denied.number),
    });
    let status = if denied.error == "invalid_client" {
        StatusCode::UNAUTHORIZED
    } else {
        StatusCode::BAD_REQUEST
    };
    answer::json(status, &body)
}

async fn exchange(shared: &Shared, tenant: &str, form: &Query) -> Result<Value, Denied> {
    let config = &shared.config;
    if !tenant.eq_ignore_ascii_case(&config.tenant) {
        return Err(denied(
            "invalid_request",
            90002,
            format!("Tenant '{tenant}' not found. Check to make sure you have the correct tenant ID."),
        ));
    }
    let field = |name: &str| {
        let missing = || {
            denied(
                "invalid_request",
                900_144,
                format!("The request body must contain the following parameter: '{name}'."),
            )
        };
        form.get(name)
            .filter(|value| !value.is_empty())
            .ok_or_else(missing)
    };
    let grant = field("grant_type")?;
    if grant != "client_credentials" {
        return Err(denied(
            "unsupported_grant_type",
            70003,
            format!("The app requested an unsupported grant type '{grant}'."),
        ));
    }
    let client = field("client_id")?;
    if !client.eq_ignore_ascii_case(&config.client_id) {
        return Err(denied(
            "unauthorized_client",
            700_016,
            format!("Application with identifier '{client}' was not found in the directory '{tenant}'."),
        ));
    }
    let audience = audience(config, field("scope")?)?;
    if field("client_assertion_type")? != JWT_BEARER {
        return Err(denied(
            "invalid_request",
            700_028,
            "The client_assertion_type is not supported.",
        ));
    }
    assertion::check(shared, field("client_assertion")?.trim()).await?;
    let (seconds, secret) = {
        let state = shared.lock();
        (state.switches.token_seconds, state.token_secret.clone())
    };
    let token = issue(config, &secret, audience, seconds)
        .map_err(|error| denied("server_error", 50000, error.to_string()))?;
    Ok(
        json!({"token_type": "Bearer", "expires_in": seconds, "ext_expires_in": seconds, "access_token": token}),
    )
}

/// `{audience}/.default`, with one or two slashes as Entra takes it.
fn audience(config: &Config, scope: &str) -> Result<String, Denied> {
    let wanted = scope.strip_suffix("/.default").map(|audience| audience.trim_end_matches('/')).ok_or_else(|| {
        denied("invalid_scope", 1_002_012, format!("The provided value for scope {scope} is not valid. Client credential flows must have a scope value with /.default suffixed to the resource identifier (application ID URI)."))
    })?;
    let known = config
        .arm_audiences
        .iter()
        .chain([&config.arm_url])
        .any(|audience| audience == wanted);
    if known {
        return Ok(wanted.to_owned());
    }
    Err(denied(
        "invalid_resource",
        500_011,
        format!(
            "The resource principal named {wanted} was not found in the tenant named {}.",
            config.tenant
        ),
    ))
}

fn issue(
    config: &Config,
    secret: &str,
    audience: String,
    seconds: u64,
) -> jsonwebtoken::errors::Result<String> {
    let claims = AccessClaims {
        aud: audience,
        iss: format!("{}/{}/v2.0", config.login_url, config.tenant),
        exp: jiff::Timestamp::now()
            .as_second()
            .saturating_add_unsigned(seconds),
        appid: config.client_id.clone(),
        tid: config.tenant.clone(),
    };
    encode(
        &Header::default(),
        &claims,
        &EncodingKey::from_secret(secret.as_bytes()),
    )
}

/// What the ARM plane says of an `Authorization` header.
pub(crate) fn check_bearer(config: &Config, secret: &str, header: Option<&str>) -> Result<(), Refusal> {
    let challenge = format!(
        "Bearer authorization_uri=\"{}/{}\", error=\"invalid_token\", error_description=\"The access token is missing or invalid.\"",
        config.login_url, config.tenant
    );
    let refuse = |code: &str, message: &str| {
        Err(Refusal::arm(StatusCode::UNAUTHORIZED, code, message).with("www-authenticate", challenge.clone()))
    };
    let Some(header) = header else {
        return refuse(
            "AuthenticationFailed",
            "Authentication failed. The 'Authorization' header is missing.",
        );
    };
    let token = match header.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim(),
        _ => {
            return refuse(
                "AuthenticationFailedInvalidHeader",
                "Authentication failed. The 'Authorization' header is provided in an invalid format.",
            );
        }
    };
    if config.static_tokens.iter().any(|known| known == token) {
        return Ok(());
    }
    let mut validation = Validation::new(Algorithm::HS256);
    validation.validate_aud = false;
    validation.leeway = 0;
    match decode::<AccessClaims>(token, &DecodingKey::from_secret(secret.as_bytes()), &validation) {
        Ok(_) => Ok(()),
        Err(error) if matches!(error.kind(), jsonwebtoken::errors::ErrorKind::ExpiredSignature) => refuse(
            "ExpiredAuthenticationToken",
            "The access token expiry UTC time is earlier than current UTC time.",
        ),
        Err(_) => refuse("InvalidAuthenticationToken", "The access token is invalid."),
    }
}
