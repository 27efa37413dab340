"""Accounts elsewhere, as the environment names them."""

import pytest
from django.core.exceptions import ImproperlyConfigured

from gateway_project import identity

OIDC = {"OIDC_SERVER_URL": "https://id.example", "OIDC_CLIENT_ID": "i", "OIDC_CLIENT_SECRET": "s"}


def test_nothing_is_offered_that_is_not_set() -> None:
    assert identity.providers({}) == {}


def test_each_is_offered_by_itself() -> None:
    found = identity.providers({"GOOGLE_CLIENT_ID": "i", "GOOGLE_CLIENT_SECRET": "s"})
    assert list(found) == ["google"]
    assert found["google"]["APPS"] == [{"client_id": "i", "secret": "s"}]
    assert found["google"]["OAUTH_PKCE_ENABLED"] is True


def test_one_more_provider_has_a_name_of_its_own() -> None:
    [app] = identity.providers({**OIDC, "OIDC_NAME": "Acme ID"})["openid_connect"]["APPS"]
    assert (app["name"], app["provider_id"], app["client_id"]) == ("Acme ID", "oidc", "i")
    assert app["settings"] == {"server_url": "https://id.example"}


@pytest.mark.parametrize("missing", OIDC)
def test_a_half_of_it_stops_the_start(missing: str) -> None:
    with pytest.raises(ImproperlyConfigured, match="OIDC_CLIENT_SECRET"):
        identity.providers({name: value for name, value in OIDC.items() if name != missing})


@pytest.mark.parametrize("name", ["GOOGLE_CLIENT_ID", "GITHUB_CLIENT_SECRET"])
def test_a_client_without_its_secret_stops_the_start(name: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=r"set together"):
        identity.providers({name: "x"})
