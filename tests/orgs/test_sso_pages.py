"""The console's pages of single sign-on: what Super Admins set up, test, try and switch."""

from __future__ import annotations

from collections.abc import Iterator
from html import unescape
from typing import Any

import pytest
from pytest_django import DjangoAssertNumQueries, Settings

from gateway_project.lib import addresses, crypto
from orgs.errors import Refused
from orgs.models import AuditEvent, User
from orgs.services import sso as services
from orgs.services.organizations import create_personal_account
from orgs.sso_models import SsoConnection
from tests.actors import World
from tests.opened import form_in, opened
from tests.orgs.oidc_provider import CLIENT_ID, SECRET, OidcProvider, running_provider, somebody
from tests.orgs.sso_world import GOES_TO, Sso, at_provider, browser, oidc_sso, signed_in_as, verified_domain

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def providers_on_this_machine(settings: Settings) -> None:
    settings.OUTBOUND_ALLOWED_NETWORKS = addresses.networks("127.0.0.0/8")


@pytest.fixture
def provider() -> Iterator[OidcProvider]:
    with running_provider() as found:
        yield found


def page_of(world: World) -> str:
    return f"/o/{world.acme.slug}/security/sso/"


def told(answer: Any) -> str:
    return unescape(answer.content.decode())


def values(**changed: str) -> dict[str, str]:
    return {"client_id": CLIENT_ID, "secret": SECRET, **changed}


def test_from_nothing_to_on(world: World, provider: OidcProvider) -> None:
    client, home = browser(world.alice), page_of(world)
    assert "One sign-in for everything" in told(client.get(home))
    answer = client.post(f"{home}new/", {"kind": "oidc", "name": "Acme ID", "group": world.field.pk, "admits_new": "on"})
    page = answer.headers["location"]
    connection = SsoConnection.objects.get(organization=world.acme)
    assert f"/sso/{connection.slug}/callback/" in told(client.get(page))
    assert "Enter first what the identity provider gives you" in told(client.post(f"{page}on/", follow=True))

    saved = told(client.post(f"{page}provider/", values(issuer=provider.url + "/"), follow=True))
    assert "Saved." in saved
    connection.refresh_from_db()
    assert connection.issuer == provider.url
    assert SECRET not in saved
    assert SECRET not in connection.secret_encrypted
    assert crypto.decrypt(connection.secret_encrypted, bound_to=connection.secret_bound_to) == SECRET
    assert "publishes 1 signing key." in told(client.post(f"{page}test/", follow=True))
    assert "Verify a domain first" in told(client.post(f"{page}on/", follow=True))
    verified_domain(world.acme, world.alice)
    assert "Acme ID is on" in told(client.post(f"{page}on/", follow=True))
    assert "Acme ID is off" in told(client.post(f"{page}off/", follow=True))

    events = AuditEvent.objects.filter(organization=world.acme, action__startswith="sso.").order_by("pk")
    assert [event.action for event in events] == ["sso.created", "sso.configured", "sso.tested", "sso.enabled", "sso.disabled"]
    assert SECRET not in str([event.after for event in events])


def test_of_two_who_configure_it_the_second_undoes_nothing(world: World, provider: OidcProvider) -> None:
    alice = world.actor("alice")
    made = services.create_connection(SsoConnection.Kind.OIDC, name="Acme ID", group=world.field, admits_new=True, by=alice)
    client, page = browser(world.alice), f"{page_of(world)}{made.pk}/"
    first, second = (opened(client, page, f"{page}provider/") for _ in range(2))
    assert client.post(f"{page}provider/", first | values(issuer=provider.url, client_id="theirs")).status_code == 302
    refused = client.post(f"{page}provider/", second | values(issuer=provider.url, client_id="mine"))
    assert refused.status_code == 422
    assert "It now says Client ID: theirs." in told(refused)
    with pytest.raises(Refused, match="Somebody has changed this connection meanwhile"):  # while the provider was asked
        services.configure_oidc(made, issuer=provider.url, client_id="mine", secret=SECRET, by=alice)
    again = form_in(told(refused), f"{page}provider/")
    assert client.post(f"{page}provider/", again | {"secret": SECRET}).status_code == 302
    made.refresh_from_db()
    assert made.client_id == "mine"


def test_a_secret_is_never_shown_again_nor_sent_to_another_issuer(world: World, provider: OidcProvider) -> None:
    sso = oidc_sso(world, provider, on=False)
    sso.connection.identities.create(user=world.mia, uid="one")
    client, page = browser(world.alice), f"{page_of(world)}{sso.connection.pk}/"
    with running_provider() as other:
        moved = client.post(f"{page}provider/", values(issuer=other.url, secret=""))
        assert moved.status_code == 422
        assert "it is only ever sent to the issuer it was entered for" in told(moved)
        refused = client.post(f"{page}provider/", values(issuer="https://", secret="typed again"))
        assert "typed again" not in told(refused)
        assert client.post(f"{page}provider/", values(issuer=provider.url, secret="")).status_code == 302
        assert sso.connection.identities.count() == 1
        assert client.post(f"{page}provider/", values(issuer=other.url)).status_code == 302
    assert sso.connection.identities.count() == 0


@pytest.mark.parametrize(
    ("issuer", "words"),
    [
        ("http://10.0.0.1", "Only public addresses"),
        ("https://169.254.169.254/latest", "Only public addresses"),
        ("https://[::1]:8443", "Only public addresses"),
        ("ftp://id.example", "begins with https://"),
        ("https://user:pass@id.example", "password"),
        ("no url", "begins with https://"),
    ],
)
def test_an_issuer_that_leads_inside_is_refused_at_its_field(
    world: World, provider: OidcProvider, settings: Settings, issuer: str, words: str
) -> None:
    settings.OUTBOUND_ALLOWED_NETWORKS = ()
    made = services.create_connection(
        SsoConnection.Kind.OIDC, name="Acme", group=world.field, admits_new=True, by=world.actor("alice")
    )
    answer = browser(world.alice).post(f"{page_of(world)}{made.pk}/provider/", values(issuer=issuer))
    assert answer.status_code == 422
    assert words in told(answer)
    assert not SsoConnection.objects.get(pk=made.pk).is_configured


def test_what_a_provider_says_wrongly_is_told(world: World, provider: OidcProvider, settings: Settings) -> None:
    sso = oidc_sso(world, provider)
    client, test = browser(world.alice), f"{page_of(world)}{sso.connection.pk}/test/"
    for document, words in (
        ({"issuer": "https://evil.example"}, "another issuer"),
        ({"jwks_uri": None}, "lacks one of"),
        ({"jwks_uri": f"{provider.url}/nowhere"}, "answered with HTTP"),
        ({"authorization_endpoint": "javascript:alert(1)"}, "not at a public"),
        ({"authorization_endpoint": "https://10.0.0.1/"}, "not at a public"),
    ):
        provider.document = document
        assert words in told(client.post(test, follow=True))
    # Judged again at the moment of connecting, whatever was allowed when it was entered.
    settings.OUTBOUND_ALLOWED_NETWORKS = ()
    assert "is not at a public address" in told(client.post(test, follow=True))


def test_a_trial_shows_what_would_come_of_it_and_does_nothing(world: World, provider: OidcProvider) -> None:
    sso = oidc_sso(world, provider, on=False)
    client = browser(world.alice)
    people = User.objects.count()
    for person, words in (
        (somebody(sso.address("newcomer")), "An account would be made"),
        (somebody("x@elsewhere.example"), "is not in a domain that"),
        (somebody(sso.member("mia").email), "would be connected and signed in"),
    ):
        provider.person = person
        away = client.post(f"{page_of(world)}{sso.connection.pk}/try/").headers["location"]
        found = GOES_TO.search(client.get(away).content.decode())
        assert found
        page = told(client.get(at_provider(unescape(found[1]))))
        assert words in page
        assert person["email"] in page
    assert (signed_in_as(client), User.objects.count(), sso.connection.identities.count()) == (world.alice, people, 0)
    assert browser().get(away).status_code == 404


def test_turning_one_on_turns_the_other_off(world: World, provider: OidcProvider) -> None:
    first = oidc_sso(world, provider)
    with running_provider() as other:
        second = oidc_sso(world, other)
    on = SsoConnection.objects.filter(organization=world.acme, enabled=True)
    assert [connection.pk for connection in on.all()] == [second.connection.pk]
    services.set_enabled(first.connection, True, by=world.actor("alice"))
    assert [connection.pk for connection in on.all()] == [first.connection.pk]


def test_how_it_is_used_is_changed_and_kept_when_something_is_wrong(world: World, provider: OidcProvider) -> None:
    sso = oidc_sso(world, provider)
    client, page = browser(world.alice), f"{page_of(world)}{sso.connection.pk}/use/"
    assert client.post(page, {"name": "Acme Two", "group": world.sales.pk}).status_code == 302
    changed = SsoConnection.objects.get(pk=sso.connection.pk)
    assert (changed.name, changed.group, changed.admits_new, changed.enabled) == ("Acme Two", world.sales, False, True)
    for form in (
        {"name": "Typed", "group": world.other.root.pk},
        {"name": "Typed", "group": "x"},
        {"name": "", "group": world.sales.pk},
    ):
        answer = client.post(page, form)
        assert answer.status_code == 422
        assert str(form["name"]) in told(answer)
    assert SsoConnection.objects.get(pk=sso.connection.pk).name == "Acme Two"


def test_a_disconnected_person_is_judged_anew(world: World, provider: OidcProvider) -> None:
    sso = oidc_sso(world, provider)
    provider.person = somebody(sso.member("mia").email)
    client = browser()
    client.get(at_provider(sso.begin(client)))
    identity = sso.connection.identities.get()
    admin, page = browser(world.alice), f"{page_of(world)}{sso.connection.pk}/people/"
    assert sso.address("mia") in told(admin.get(page, {"q": "MIA@"}))
    assert "Nobody found" in told(admin.get(page, {"q": "nobody"}))
    assert sso.address("mia") in told(admin.get(page, {"q": "a\0b"}))
    assert "is disconnected" in told(admin.post(f"{page}{identity.pk}/disconnect/", follow=True))
    assert sso.connection.identities.count() == 0
    assert admin.post(f"{page}{identity.pk}/disconnect/").status_code == 404


def test_deleting_names_what_is_lost(world: World, provider: OidcProvider) -> None:
    sso = oidc_sso(world, provider)
    sso.connection.identities.create(user=world.mia, uid="mia")
    client, page = browser(world.alice), f"{page_of(world)}{sso.connection.pk}/delete/"
    assert "1 person is connected by it" in told(client.get(page))
    assert "Acme ID is deleted" in told(client.post(page, follow=True))
    assert not SsoConnection.objects.filter(organization=world.acme).exists()
    assert User.objects.filter(pk=world.mia.pk).exists()


def test_another_organisations_connection_does_not_exist(world: World, provider: OidcProvider) -> None:
    sso = oidc_sso(world, provider)
    theirs = browser(world.charlie)
    for path in ("", "provider/", "use/", "test/", "try/", "on/", "off/", "people/", "delete/"):
        url = f"/o/{world.other.slug}/security/sso/{sso.connection.pk}/{path}"
        assert (theirs.get(url) if path in ("", "people/") else theirs.post(url)).status_code == 404
    with pytest.raises(Refused, match="no such connection"):
        services.delete_connection(sso.connection, by=world.actor("charlie"))


def test_a_personal_account_has_no_single_sign_on(world: World) -> None:
    home = create_personal_account(world.mia)
    form = {"kind": "oidc", "name": "Mine", "group": str(home.root.pk)}
    answer = browser(world.mia).post(f"/o/{home.slug}/security/sso/new/", form)
    assert "A personal account has no single sign-on" in told(answer)


def test_the_pages_cost_few_queries(
    world: World, provider: OidcProvider, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    sso: Sso = oidc_sso(world, provider)
    client = browser(world.alice)
    for path in ("", f"{sso.connection.pk}/", f"{sso.connection.pk}/people/"):
        client.get(page_of(world) + path)
        with django_assert_max_num_queries(8):
            client.get(page_of(world) + path)
