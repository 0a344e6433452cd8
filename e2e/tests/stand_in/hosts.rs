//! One port for all planes, as in a pod: the host name decides.

use std::net::SocketAddr;

use mcp_fleet_e2e::apim::{Certificate, Config, Listen, StandIn};
use reqwest::{Client, StatusCode};

use crate::support::{TOKEN, config, service_path};

const ARM: &str = "arm.azure.svc.cluster.local";
const LOGIN: &str = "login.azure.svc.cluster.local";
const GATEWAY: &str = "gateway.azure.svc.cluster.local";

#[tokio::test]
async fn the_host_name_chooses_the_plane() {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let host = |name: &str| format!("{name}:8443");
    let listen = Listen::Hosts {
        tls: any,
        control: any,
        arm: host(ARM),
        login: host(LOGIN),
        gateway: host(GATEWAY),
    };
    let names = [ARM, LOGIN, GATEWAY].map(str::to_owned).to_vec();
    let stand_in = StandIn::start(Config {
        listen,
        certificate: Certificate::SelfMade { names },
        ..config()
    })
    .await
    .unwrap();
    assert_eq!(stand_in.gateway_url, format!("https://{GATEWAY}:8443"));
    let port = stand_in.tls_addresses[0].port();
    let ca = reqwest::Certificate::from_pem(stand_in.ca_pem.as_bytes()).unwrap();
    let mut builder = Client::builder().tls_certs_only([ca]);
    for name in [ARM, LOGIN, GATEWAY] {
        builder = builder.resolve(name, stand_in.tls_addresses[0]);
    }
    let client = builder.build().unwrap();
    let get = async |host: &str, path: &str| {
        let url = format!("https://{host}:{port}{path}");
        let response = client.get(url).bearer_auth(TOKEN).send().await.unwrap();
        (response.status(), response.text().await.unwrap())
    };
    let (status, service) = get(ARM, &format!("{}?api-version=2024-05-01", service_path())).await;
    assert_eq!(status, StatusCode::OK);
    assert!(
        service.contains(&format!("\"gatewayUrl\":\"https://{GATEWAY}:8443\"")),
        "{service}"
    );
    let tenant = Config::default().tenant;
    assert_eq!(
        get(LOGIN, &format!("/{tenant}/oauth2/v2.0/token")).await.0,
        StatusCode::METHOD_NOT_ALLOWED
    );
    for host in [GATEWAY, "localhost", "127.0.0.1"] {
        assert_eq!(
            get(host, "/status-0123456789abcdef").await.0,
            StatusCode::OK,
            "{host}"
        );
    }
    let ca = reqwest::get(format!("{}/ca.pem", stand_in.control_url))
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    assert_eq!(ca, stand_in.ca_pem);
}
