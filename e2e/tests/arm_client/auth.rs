//! The federated exchange for real: a service-account token for an Entra token, over TLS with a private CA.

use std::collections::BTreeMap;
use std::sync::Arc;

use jsonwebtoken::{
    Algorithm, EncodingKey, Header, encode,
    jwk::{Jwk, JwkSet},
};
use mcp_fleet_e2e::apim::{Action, Config, Fault, KeySource, Plane};
use mcp_fleet_operator::azure::apim::{
    Identity, PlainHttp, Unobserved, WorkloadIdentity, http_client, service,
};
use serde_json::json;

use super::fixture::{Fixture, client_with_tokens, target};

struct Issuer {
    key: EncodingKey,
    jwk: Jwk,
}

impl Issuer {
    fn new() -> Self {
        let pair =
            rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048).unwrap();
        let key = EncodingKey::from_rsa_pem(pair.serialize_pem().as_bytes()).unwrap();
        let mut jwk = Jwk::from_encoding_key(&key, Algorithm::RS256).unwrap();
        jwk.common.key_id = Some("k1".into());
        Self { key, jwk }
    }

    fn token(&self, subject: &str) -> String {
        let now = jiff::Timestamp::now().as_second();
        let claims = json!({
            "iss": "https://kubernetes.default.svc", "sub": subject, "aud": ["api://AzureADTokenExchange"],
            "iat": now, "nbf": now - 5, "exp": now + 600,
        });
        let header = Header {
            kid: Some("k1".into()),
            ..Header::new(Algorithm::RS256)
        };
        encode(&header, &claims, &self.key).unwrap()
    }
}

#[tokio::test]
async fn a_projected_token_opens_arm_and_a_revoked_one_is_renewed() {
    let issuer = Issuer::new();
    let config = Config {
        keys: KeySource::Keys(JwkSet {
            keys: vec![issuer.jwk.clone()],
        }),
        issuer: Some("https://kubernetes.default.svc".into()),
        ..Config::default()
    };
    let (tenant, client_id, subject) = (
        config.tenant.clone(),
        config.client_id.clone(),
        config.subject.clone(),
    );
    let fixture = Fixture::with(config).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, issuer.token(&subject)).unwrap();
    let source = |ca: Option<&str>, tenant: &str, file: &std::path::Path| {
        let http = http_client(ca.map(str::as_bytes), PlainHttp::Refused).unwrap();
        let target = target(&fixture.stand_in);
        let identity = Identity {
            tenant_id: tenant.into(),
            client_id: client_id.clone(),
            token_file: file.to_owned(),
        };
        let tokens = WorkloadIdentity::new(identity, target.authority().clone(), target.scope(), http);
        client_with_tokens(&fixture.stand_in, Arc::new(Unobserved), Arc::new(tokens))
    };
    let ca = fixture.stand_in.ca_pem.as_str();
    let client = source(Some(ca), &tenant, &file);
    service(&client).await.unwrap();
    fixture.stand_in.control.revoke_tokens().await.unwrap();
    service(&client).await.unwrap();

    let wrong = folder.path().join("wrong");
    let assertion = issuer.token("system:serviceaccount:other:other");
    std::fs::write(&wrong, &assertion).unwrap();
    let error = service(&source(Some(ca), &tenant, &wrong)).await.unwrap_err();
    assert_eq!(error.reason(), "AuthenticationFailed");
    assert!(
        error
            .to_string()
            .contains("No matching federated identity record"),
        "{error}"
    );
    assert!(!error.to_string().contains(&assertion), "{error}");

    // Without the CA the certificate is refused; nothing is trusted blindly.
    let error = service(&source(None, &tenant, &file)).await.unwrap_err();
    assert_eq!(error.reason(), "ConnectionFailed", "{error}");
    assert!(error.to_string().contains("certificate"), "{error}");
    assert!(!error.to_string().contains("stack backtrace"), "{error}");

    // Something answers that is not Entra.
    let refusal = Fault {
        plane: Plane::Token,
        method: None,
        path: None,
        skip: 0,
        count: None,
        action: Action::Answer {
            status: 404,
            headers: BTreeMap::new(),
            body: Some(json!({"message": "no such page"})),
        },
    };
    fixture.stand_in.control.fault(&refusal).await.unwrap();
    let error = service(&source(Some(ca), &tenant, &file)).await.unwrap_err();
    assert_eq!(error.reason(), "AuthenticationFailed", "{error}");
    assert!(error.to_string().contains("answered 404"), "{error}");
}
