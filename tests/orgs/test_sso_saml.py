"""Single sign-on by SAML, against pysaml2's identity provider."""

from __future__ import annotations

import base64
import re
import secrets
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
from django.test import Client, override_settings
from pytest_django import Settings
from pytest_django.plugin import DjangoDbBlocker

from gateway_project.lib import addresses
from orgs.errors import Refused
from orgs.models import User
from orgs.services import sso as services
from orgs.sso import saml
from orgs.sso.errors import SsoFailed
from orgs.sso_models import SsoConnection
from tests.actors import World
from tests.orgs.saml_provider import SIGNS, SSO_URL, SamlProvider
from tests.orgs.sso_world import Sso, browser, signed_in_as, verified_domain

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.skipif(not SIGNS, reason="No test of SAML: the program xmlsec1 is missing (Debian: apt-get install xmlsec1)."),
]
NETWORKS = addresses.networks("127.0.0.0/8")
EMAIL_FORMAT = "urn:oasis:names:tc:SAML:1.1:nameid-format:emailAddress"
TRANSIENT = "urn:oasis:names:tc:SAML:2.0:nameid-format:transient"


@pytest.fixture(autouse=True)
def providers_on_this_machine(settings: Settings) -> None:
    settings.OUTBOUND_ALLOWED_NETWORKS = NETWORKS


@pytest.fixture(scope="module")
def acquainted(lasting_world: World, django_db_blocker: DjangoDbBlocker) -> tuple[Sso, SamlProvider]:
    """A connection that is on, and the provider that it knows."""
    with django_db_blocker.unblock(), override_settings(OUTBOUND_ALLOWED_NETWORKS=NETWORKS):
        return acquaint(deepcopy(lasting_world), SamlProvider())


@pytest.fixture
def sso(acquainted: tuple[Sso, SamlProvider], db: None) -> Sso:
    return deepcopy(acquainted[0])


@pytest.fixture
def provider(acquainted: tuple[Sso, SamlProvider]) -> SamlProvider:
    return deepcopy(acquainted[1])


def acquaint(world: World, provider: SamlProvider) -> tuple[Sso, SamlProvider]:
    alice = world.actor("alice")
    domain = verified_domain(world.acme, world.alice)
    made = services.create_connection(SsoConnection.Kind.SAML, name="Acme SAML", group=world.field, admits_new=True, by=alice)
    services.configure_saml(made, metadata_url="", metadata=provider.metadata(), by=alice)
    connection = services.set_enabled(made, True, by=alice)
    provider.ours = saml.metadata(connection).decode()
    made_up = Sso(world, domain, connection)
    provider.person = {"uid": secrets.token_hex(8), "mail": made_up.address("newcomer"), "displayName": "Mia Moss"}
    return made_up, provider


def answered(sso: Sso, provider: SamlProvider, client: Client, **wrong: Any) -> str:
    """Begins here, signs in there; what the browser is to post."""
    request_id, acs = provider.asked(sso.begin(client))
    assert acs == saml.acs_url(sso.connection)
    return provider.response(request_id, acs, **{"audience": saml.entity_id(sso.connection), **wrong})


def post(sso: Sso, client: Client, response: str, **form: str) -> Any:
    """The provider's page posts the form: without our cookies, as browsers do with a form from elsewhere."""
    elsewhere = browser()
    answer = elsewhere.post(f"/sso/{sso.connection.slug}/acs/", {"SAMLResponse": response, **form})
    return client.get(answer.headers["location"]) if answer.status_code == 302 else answer


def refused(answer: Any, client: Client) -> str:
    assert answer.status_code == 403, answer.status_code
    assert signed_in_as(client) is None
    page: str = answer.content.decode()
    return page[page.index('role="alert">') :].partition("</p>")[0]


def test_who_comes_first_gets_an_account_and_the_next_time_the_same_one(sso: Sso, provider: SamlProvider) -> None:
    client = browser()
    answer = post(sso, client, answered(sso, provider, client))
    user = User.objects.get(email=sso.address("newcomer"))
    assert (answer.status_code, answer.headers["location"]) == (302, "/")
    assert signed_in_as(client) == user
    assert user.name == "Mia Moss"
    again = browser()
    post(sso, again, answered(sso, provider, again, sign_response=True))
    assert signed_in_as(again) == user


def test_the_address_may_be_the_name_itself(sso: Sso, provider: SamlProvider) -> None:
    provider.person = {"uid": sso.address("named").title(), "givenName": "Ada", "sn": "Stone"}
    client = browser()
    post(sso, client, answered(sso, provider, client, name_id_format=EMAIL_FORMAT))
    user = signed_in_as(client)
    assert user is not None
    assert (user.email, user.name) == (sso.address("named"), "Ada Stone")


def test_relay_state_leads_nowhere(sso: Sso, provider: SamlProvider) -> None:
    for state in ("https://evil.example/", "//evil.example", "/o/acme/"):
        client = browser()
        assert post(sso, client, answered(sso, provider, client), RelayState=state).headers["location"] == "/"


def test_a_response_signed_by_another_key_is_refused(sso: Sso, provider: SamlProvider) -> None:
    client = browser()
    stranger = SamlProvider(ours=provider.ours, keys="of a stranger", person=provider.person)
    assert "signature is not the identity provider" in refused(post(sso, client, answered(sso, stranger, client)), client)


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"audience": "https://other.example/metadata"}, "made out to another service"),
    ({"minutes": -30}, "has expired"),
    ({"sign_assertion": False}, "not signed"),
    ({"sign_assertion": False, "sign_response": True}, "assertion is not signed"),
    ({"name_id_format": TRANSIENT}, "nothing lasting"),
]


def test_a_response_that_is_not_right_is_refused(sso: Sso, provider: SamlProvider) -> None:
    client = browser()
    for wrong, told in WRONG:
        assert told in refused(post(sso, client, answered(sso, provider, client, **wrong)), client), told


def test_another_providers_name_is_refused(sso: Sso, provider: SamlProvider) -> None:
    client = browser()
    request_id, acs = provider.asked(sso.begin(client))
    other = SamlProvider("https://other.example/metadata", ours=provider.ours, person=provider.person)
    response = other.response(request_id, acs, audience=saml.entity_id(sso.connection))
    assert "another identity provider" in refused(post(sso, client, response), client)


CHANGES: list[tuple[Callable[[str], str], str]] = [
    (lambda text: text.replace("newcomer@", "director@"), "signature is not"),
    (lambda text: re.sub(r"<(\w+:)Signature\b.*?</\1Signature>", "", text, flags=re.S), "not signed"),
    (lambda text: text.replace("Response>", "Request>"), "cannot be read"),
    (lambda text: "<!DOCTYPE x [<!ENTITY a 'b'>]>" + text.partition("?>")[2], "cannot be read"),
    (lambda text: "", "sent no SAML response"),
    (lambda text: "<a/>", "as the standard wants it"),
    (lambda text: "x" * 300_000, "too long"),
]


def test_a_response_that_was_changed_is_refused(sso: Sso, provider: SamlProvider) -> None:
    client = browser()
    text = base64.b64decode(answered(sso, provider, client)).decode()
    for change, told in CHANGES:
        answer = post(sso, client, base64.b64encode(change(text).encode()).decode())
        assert told in refused(answer, client), told


def test_a_comment_within_an_address_does_not_shorten_it(sso: Sso, provider: SamlProvider) -> None:
    """No signature covers comments, so anybody may put one anywhere."""
    client = browser()
    text = base64.b64decode(answered(sso, provider, client)).decode()
    commented = text.replace(sso.domain.name, f"{sso.domain.name[:5]}<!-- -->{sso.domain.name[5:]}")
    assert commented != text
    post(sso, client, base64.b64encode(commented.encode()).decode())
    assert signed_in_as(client) == User.objects.get(email=sso.address("newcomer"))


def test_what_is_no_response_at_all_is_refused(sso: Sso) -> None:
    client = browser()
    for posted in ("%%%", "AAAA", "PGE+"):
        assert "cannot be read" in refused(post(sso, client, posted), client)


def test_a_response_is_used_once(sso: Sso, provider: SamlProvider) -> None:
    client = browser()
    response = answered(sso, provider, client)
    post(sso, client, response)
    client.post("/accounts/logout/")
    assert "used already" in refused(post(sso, client, response), client)


def test_a_response_serves_only_the_browser_that_asked(sso: Sso, provider: SamlProvider) -> None:
    asking, other = browser(), browser()
    response = answered(sso, provider, asking)
    assert "not begun here" in refused(post(sso, other, response), other)


def test_a_verified_answer_waits_once_and_for_its_own_connection(sso: Sso, provider: SamlProvider) -> None:
    client = browser()
    response = answered(sso, provider, client)
    finish = browser().post(f"/sso/{sso.connection.slug}/acs/", {"SAMLResponse": response}).headers["location"]
    assert client.get(finish + "x").status_code == 403
    assert client.get(finish).status_code == 302
    client.post("/accounts/logout/")
    assert "finished already" in refused(client.get(finish), client)


def test_a_provider_begins_only_where_that_is_switched_on(sso: Sso, provider: SamlProvider) -> None:
    client = browser()
    acs, audience = saml.acs_url(sso.connection), saml.entity_id(sso.connection)
    response = provider.response(None, acs, audience=audience)
    assert "not begun here" in refused(post(sso, client, response), client)
    sso.change(idp_initiated=True)
    response = provider.response(None, acs, audience=audience)
    assert post(sso, client, response, RelayState="https://evil.example/").headers["location"] == "/"
    assert signed_in_as(client) is not None
    other = browser()
    assert "used already" in refused(post(sso, other, response), other)


def test_an_address_of_another_domain_is_refused(sso: Sso, provider: SamlProvider) -> None:
    provider.person["mail"] = sso.world.mia.email
    client = browser()
    assert "is not in a domain that" in refused(post(sso, client, answered(sso, provider, client)), client)


def test_a_connection_that_is_off_signs_nobody_in(sso: Sso, provider: SamlProvider) -> None:
    client = browser()
    response = answered(sso, provider, client)
    services.set_enabled(sso.connection, False, by=sso.world.actor("alice"))
    assert post(sso, client, response).status_code == 404
    assert signed_in_as(client) is None


def test_a_response_for_one_connection_is_none_for_another(sso: Sso, provider: SamlProvider) -> None:
    """The same provider connected twice: each of our entity ids is an audience of its own."""
    alice = sso.world.actor("alice")
    made = services.create_connection(SsoConnection.Kind.SAML, name="Second", group=sso.world.field, admits_new=True, by=alice)
    second = services.configure_saml(made, metadata_url="", metadata=provider.metadata(), by=alice)
    client = browser()
    response = answered(sso, provider, client)
    services.set_enabled(second, True, by=alice)
    answer = client.post(f"/sso/{second.slug}/acs/", {"SAMLResponse": response})
    assert "cannot be accepted" in refused(answer, client)


def test_our_metadata_names_our_addresses_and_no_logout(sso: Sso) -> None:
    answer = browser().get(f"/sso/{sso.connection.slug}/metadata/")
    text = answer.content.decode()
    assert answer.headers["content-type"] == "application/samlmetadata+xml"
    assert f'entityID="{saml.entity_id(sso.connection)}"' in text
    assert saml.acs_url(sso.connection) in text
    assert "SingleLogout" not in text


METADATA: list[tuple[Callable[[str], str], str]] = [
    (lambda text: text.replace(SSO_URL, "https://10.0.0.1/sso"), "not at a public"),
    (lambda text: text.replace(SSO_URL, "javascript:alert(1)"), "not at a public"),
    (lambda text: text.replace("HTTP-Redirect", "HTTP-Artifact"), "HTTP-Redirect"),
    (lambda text: text.replace("X509Certificate>M", "X509Certificate>!"), "certificate"),
    (lambda text: "<a/>", "not SAML metadata"),
    (lambda text: "no xml", "not SAML metadata"),
    (lambda text: "<!DOCTYPE x [<!ENTITY a 'b'>]><a>&a;</a>", "not SAML metadata"),
]


def test_metadata_that_makes_no_sense_is_told_at_its_field(sso: Sso, provider: SamlProvider) -> None:
    for change, told in METADATA:
        with pytest.raises(Refused, match=told) as refusal:
            services.configure_saml(
                sso.connection, metadata_url="", metadata=change(provider.metadata()), by=sso.world.actor("alice")
            )
        assert refusal.value.field == "metadata"


def test_a_certificate_that_cannot_be_read_is_refused() -> None:
    with pytest.raises(SsoFailed):
        saml.certificate_of("AAAA")
