//! What the service normalises, and what it shows of others' settings.

use serde_json::json;

use crate::azure::apim::wire::*;

#[test]
fn what_the_service_normalises_is_no_difference() {
    let wanted = Backend {
        title: Some("weather".into()),
        description: Some("a\n\nb".into()),
        url: Some("http://203.0.113.7".into()),
        protocol: Some("http".into()),
        tls: Some(BackendTls::default()),
    };
    let found: Backend = serde_json::from_value(json!({
        "title": "weather", "description": "a\r\n\r\nb", "url": "http://203.0.113.7/", "protocol": "Http",
        "tls": {"validateCertificateChain": null}, "circuitBreaker": null
    }))
    .unwrap();
    assert_eq!(wanted.difference(&found), None);
    let moved = Backend {
        url: Some("http://203.0.113.8/".into()),
        ..found
    };
    let change = wanted.difference(&moved).unwrap();
    assert_eq!(
        serde_json::to_value(change).unwrap(),
        json!({"url": "http://203.0.113.7"})
    );
}

#[test]
fn paths_and_scopes_are_compared_in_canonical_form() {
    assert!(same_path("tools/weather", "/Tools/weather"));
    assert!(!same_path("tools/weather", "tools/weather2"));
    let full = "/subscriptions/s/resourceGroups/g/providers/Microsoft.ApiManagement/service/c/apis/x";
    assert!(same_scope("/apis/x", full));
    assert!(!same_scope("/apis/x", "/apis/y"));
    assert!(!same_scope("/apis/x", "/products/x"));
}

#[test]
fn others_settings_are_sent_back_without_what_only_answers_have() {
    let api: Api = serde_json::from_value(json!({
        "displayName": "x", "termsOfServiceUrl": "https://example.com/tos", "contact": {"name": "Ann"},
        "serviceUrl": null, "authenticationSettings": {
            "oAuth2": null, "openid": null, "oAuth2AuthenticationSettings": [],
            "openidAuthenticationSettings": [{"openidProviderId": "p"}], "returnProtectedResourceMetadata": false
        }
    }))
    .unwrap();
    assert_eq!(
        serde_json::to_value(api.others.sendable()).unwrap(),
        json!({
            "contact": {"name": "Ann"}, "termsOfServiceUrl": "https://example.com/tos",
            "authenticationSettings": {"openidAuthenticationSettings": [{"openidProviderId": "p"}]}
        })
    );
}

#[test]
fn keys_are_never_shown() {
    let subscription = Subscription {
        primary_key: Some("secret".into()),
        ..Subscription::default()
    };
    assert!(!format!("{subscription:?}").contains("secret"));
}
