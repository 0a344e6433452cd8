//! The token endpoint: service-account tokens are checked for real, errors carry Entra's numbers.

use jsonwebtoken::jwk::{Jwk, JwkSet};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use mcp_fleet_e2e::apim::{Config, KeySource};
use rcgen::{KeyPair, PKCS_RSA_SHA256, RsaKeySize};
use serde_json::{Value, json};

use crate::support::{Bench, Reply, config, service_path};

const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
const SUBJECT: &str = "system:serviceaccount:mcp-fleet-system:mcp-fleet-operator";
const AUDIENCE: &str = "api://AzureADTokenExchange";

/// A key like the cluster's own.
struct Signer(EncodingKey);

impl Signer {
    fn new() -> Self {
        let pair = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
        Self(EncodingKey::from_rsa_pem(pair.serialize_pem().as_bytes()).unwrap())
    }

    fn keys(&self) -> JwkSet {
        let mut key = Jwk::from_encoding_key(&self.0, Algorithm::RS256).unwrap();
        key.common.key_id = Some("one".into());
        JwkSet { keys: vec![key] }
    }

    fn sign(&self, claims: &Value) -> String {
        let header = Header {
            kid: Some("one".into()),
            ..Header::new(Algorithm::RS256)
        };
        encode(&header, claims, &self.0).unwrap()
    }
}

fn claims() -> Value {
    let now = jiff::Timestamp::now().as_second();
    json!({"iss": ISSUER, "sub": SUBJECT, "aud": [AUDIENCE], "exp": now + 600, "nbf": now - 10, "iat": now - 10})
}

async fn start() -> (Bench, Signer) {
    let signer = Signer::new();
    let keys = KeySource::Keys(signer.keys());
    let config = Config {
        static_tokens: vec![],
        keys,
        issuer: Some(ISSUER.into()),
        ..config()
    };
    (Bench::with(config).await, signer)
}

fn form(assertion: &str) -> Vec<(&'static str, String)> {
    vec![
        ("grant_type", "client_credentials".into()),
        ("client_id", Config::default().client_id),
        ("scope", "https://management.azure.com/.default".into()),
        (
            "client_assertion_type",
            "urn:ietf:params:oauth:client-assertion-type:jwt-bearer".into(),
        ),
        ("client_assertion", assertion.into()),
    ]
}

async fn ask(bench: &Bench, tenant: &str, form: &[(&'static str, String)]) -> Reply {
    let url = format!("{}/{tenant}/oauth2/v2.0/token", bench.stand_in.login_url);
    bench.send(bench.client.post(url).form(form)).await
}

#[tokio::test]
async fn a_good_token_is_exchanged_and_opens_arm() {
    let (bench, signer) = start().await;
    let tenant = Config::default().tenant;
    // The file that kubelet projects may end with a line break, and it is sent along.
    let answer = ask(&bench, &tenant, &form(&format!("{}\n", signer.sign(&claims())))).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let body = answer.json();
    assert_eq!(
        (&body["token_type"], &body["expires_in"]),
        (&json!("Bearer"), &json!(3600))
    );
    let url = format!(
        "{}{}?api-version=2024-05-01",
        bench.stand_in.arm_url,
        service_path()
    );
    let read = async |token: &Value| {
        let request = bench.client.get(&url).bearer_auth(token.as_str().unwrap());
        bench.send(request).await
    };
    assert_eq!(read(&body["access_token"]).await.status, 200);
    bench.stand_in.control.revoke_tokens().await.unwrap();
    assert_eq!(
        read(&body["access_token"]).await.json()["error"]["code"],
        "InvalidAuthenticationToken"
    );
    bench
        .stand_in
        .control
        .set(json!({"tokenSeconds": 0}))
        .await
        .unwrap();
    let short = ask(&bench, &tenant, &form(&signer.sign(&claims()))).await.json();
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    assert_eq!(
        read(&short["access_token"]).await.json()["error"]["code"],
        "ExpiredAuthenticationToken"
    );
}

#[tokio::test]
async fn bad_requests_are_refused_with_entras_numbers() {
    let (bench, signer) = start().await;
    let tenant = Config::default().tenant;
    let with = |name: &str, value: Value| {
        let mut claims = claims();
        claims[name] = value;
        form(&signer.sign(&claims))
    };
    let replace = |name: &str, value: &str| {
        let mut form = form(&signer.sign(&claims()));
        form.iter_mut()
            .filter(|(key, _)| *key == name)
            .for_each(|(_, old)| *old = value.into());
        form
    };
    let now = jiff::Timestamp::now().as_second();
    let good = signer.sign(&claims());
    let (head, signature) = good.rsplit_once('.').unwrap();
    let forged = format!("{head}.{}", signature.chars().rev().collect::<String>());
    for (name, form, number, status) in [
        (
            "subject",
            with("sub", json!("system:serviceaccount:default:default")),
            700_213,
            401,
        ),
        (
            "issuer",
            with("iss", json!("https://elsewhere.example.com")),
            700_211,
            401,
        ),
        (
            "audience",
            with("aud", json!("https://kubernetes.default.svc")),
            700_212,
            401,
        ),
        ("expired", with("exp", json!(now - 5)), 700_024, 401),
        ("not yet valid", with("nbf", json!(now + 600)), 700_024, 401),
        ("signature", replace("client_assertion", &forged), 700_027, 401),
        ("no token", replace("client_assertion", "nonsense"), 50027, 400),
        ("empty", replace("client_assertion", ""), 900_144, 400),
        (
            "client",
            replace("client_id", "00000000-0000-0000-0000-000000000000"),
            700_016,
            400,
        ),
        (
            "scope",
            replace("scope", "https://graph.microsoft.com/.default"),
            500_011,
            400,
        ),
        (
            "no default",
            replace("scope", "https://management.azure.com/user_impersonation"),
            1_002_012,
            400,
        ),
        ("grant", replace("grant_type", "password"), 70003, 400),
        ("type", replace("client_assertion_type", "saml"), 700_028, 400),
    ] {
        let answer = ask(&bench, &tenant, &form).await;
        assert_eq!(
            (answer.status, &answer.json()["error_codes"][0]),
            (status, &json!(number)),
            "{name}: {answer:?}"
        );
        let text = answer.json()["error_description"].as_str().unwrap().to_owned();
        assert!(text.starts_with(&format!("AADSTS{number}: ")), "{text}");
    }
    let other = ask(&bench, "someone-else", &form(&good)).await;
    assert_eq!(other.json()["error_codes"][0], 90002);
    let arm = format!("{}/.default", bench.stand_in.arm_url);
    assert_eq!(
        ask(&bench, &tenant, &replace("scope", &arm)).await.status,
        200,
        "the ARM URL is an audience too"
    );
}
