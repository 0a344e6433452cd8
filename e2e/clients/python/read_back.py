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
        "backend": client.backend.get(*service, wanted.backend).as_dict(),
        "api": client.api.get(*service, wanted.api).as_dict(),
        "operations": [operation.as_dict() for operation in operations],
        "policy": client.api_policy.get(*service, wanted.api, "policy").as_dict(),
        "product": client.product.get(*service, wanted.product).as_dict(),
        "product_apis": [api.name for api in linked],
        "subscription": client.subscription.get(*service, wanted.product_subscription).as_dict(),
    }
    print(json.dumps(answer))


main()
