//! The service itself, as ARM shows it. It is read only here.
//! In: the configuration. Out: JSON in the recorded shape (aso-2024-05-01, seq 5).

use serde_json::{Value, json};

use crate::apim::config::Config;

pub(super) const ETAG: &str = "AAAAAALBJD8=";

pub(super) fn show(config: &Config, without_addresses: bool) -> Value {
    let sku = if without_addresses { "BasicV2" } else { &config.sku };
    let addresses = if without_addresses || config.public_ip_addresses.is_empty() {
        Value::Null
    } else {
        json!(config.public_ip_addresses)
    };
    let host = config.gateway_url.trim_start_matches("https://");
    json!({
        "etag": ETAG,
        "id": config.service_path(),
        "name": config.service,
        "type": "Microsoft.ApiManagement/service",
        "location": config.location,
        "tags": {},
        "sku": {"name": sku, "capacity": 1},
        "identity": null,
        "zones": null,
        "properties": {
            "publisherEmail": "publisher@example.com",
            "publisherName": "Contoso",
            "notificationSenderEmail": "apimgmt-noreply@mail.windowsazure.com",
            "provisioningState": "Succeeded",
            "targetProvisioningState": "",
            "createdAtUtc": "2026-01-01T00:00:00Z",
            "gatewayUrl": config.gateway_url,
            "gatewayRegionalUrl": null,
            "portalUrl": null,
            "developerPortalUrl": null,
            "dataApiUrl": null,
            "managementApiUrl": null,
            "scmUrl": null,
            "hostnameConfigurations": [{
                "type": "Proxy",
                "hostName": host,
                "encodedCertificate": null,
                "keyVaultId": null,
                "certificatePassword": null,
                "negotiateClientCertificate": false,
                "certificate": null,
                "defaultSslBinding": true,
                "identityClientId": null,
                "certificateSource": "BuiltIn",
                "certificateStatus": null,
            }],
            "publicIPAddresses": addresses,
            "privateIPAddresses": null,
            "additionalLocations": null,
            "virtualNetworkConfiguration": null,
            "customProperties": {},
            "virtualNetworkType": "None",
            "certificates": null,
            "natGatewayState": "Enabled",
            "outboundPublicIPAddresses": addresses,
            "apiVersionConstraint": {"minApiVersion": null},
            "publicIpAddressId": null,
            "publicNetworkAccess": "Enabled",
            "privateEndpointConnections": null,
            "platformVersion": "undetermined",
            "configurationApi": null,
            "legacyPortalStatus": "Disabled",
            "developerPortalStatus": "Disabled",
        },
    })
}
