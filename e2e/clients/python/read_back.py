"""Reads back with Microsoft's own management library what the operator registered.

In: --endpoint, --subscription, --group, --service, --api, --backend, --product, --product-subscription; a bearer token in
ARM_TOKEN; trusted certificates in REQUESTS_CA_BUNDLE. Out: one JSON document on standard output, as the library's models say it.
"""

import argparse
import json
import os
import time

from azure.core.credentials import AccessToken
from azure.mgmt.apimanagement import ApiManagementClient


class GivenToken:
    """A credential that hands out the token it was given."""

    def get_token(self, *scopes, **options):
        return AccessToken(os.environ["ARM_TOKEN"], int(time.time()) + 600)


def as_sent(model):
    """In the service's own form: the library flattens `properties`."""
    return model.serialize(keep_readonly=True)


def main():
    parser = argparse.ArgumentParser()
    for name in ["endpoint", "subscription", "group", "service", "api", "backend", "product", "product-subscription"]:
        parser.add_argument(f"--{name}", required=True)
    wanted = parser.parse_args()
    service = (wanted.group, wanted.service)
    client = ApiManagementClient(
        GivenToken(), wanted.subscription, base_url=wanted.endpoint, credential_scopes=["https://management.azure.com/.default"]
    )
    operations = client.api_operation.list_by_api(*service, wanted.api)
    linked = client.product_api.list_by_product(*service, wanted.product)
    answer = {
        "backend": as_sent(client.backend.get(*service, wanted.backend)),
        "api": as_sent(client.api.get(*service, wanted.api)),
        "operations": [as_sent(operation) for operation in operations],
        "policy": as_sent(client.api_policy.get(*service, wanted.api, "policy")),
        "product": as_sent(client.product.get(*service, wanted.product)),
        "product_apis": [api.name for api in linked],
        "subscription": as_sent(client.subscription.get(*service, wanted.product_subscription)),
    }
    print(json.dumps(answer))


main()
