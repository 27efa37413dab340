"""An organisation that requires a second factor opens to nobody without one; everything else of theirs stays open."""

from html import unescape

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal import auth as totp
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from orgs.errors import Refused
from orgs.models import AuditEvent, Organization, User
from orgs.second_factor import has_second_factor, people_without_second_factor
from orgs.services.members import suspend_member
from orgs.services.organizations import change_settings
from tests.actors import World
from tests.orgs.test_settings_page import client_of, form_of, page_of

pytestmark = pytest.mark.django_db


def give_app(user: User) -> str:
    """The secret of the authenticator app that the person now has."""
    secret = totp.generate_totp_secret()
    totp.TOTP.activate(user, secret)
    return str(secret)


def require(world: World) -> None:
    Organization.objects.filter(pk=world.acme.pk).update(second_factor_required=True)


def test_without_the_rule_nobody_is_asked(world: World) -> None:
    assert client_of(world, "mia").get(f"/o/{world.acme.slug}/keys/").status_code == 200


@pytest.mark.parametrize("path", ["", "keys/", "keys/new/", "no/such/page/"])
def test_every_page_of_the_organisation_says_why_and_leads_to_setting_one_up(world: World, path: str) -> None:
    require(world)
    answer = client_of(world, "mia").get(f"/o/{world.acme.slug}/{path}")
    if path.startswith("no"):
        assert answer.status_code == 404
        return
    text = unescape(answer.content.decode())
    assert answer.status_code == 403
    assert f"{world.acme.name} requires a second factor" in text
    assert 'href="/accounts/2fa/totp/activate/"' in text
    assert 'href="/accounts/2fa/webauthn/add/"' in text
    assert "Go to your personal account" in text
    assert "no-store" in answer.headers["Cache-Control"]


def test_a_change_is_kept_out_as_well(world: World) -> None:
    require(world)
    answer = client_of(world, "alice").post(page_of(world), form_of(world, name="Taken over"))
    assert answer.status_code == 403
    assert not Organization.objects.filter(name="Taken over").exists()


def test_a_fragment_leaves_its_place_to_the_whole_page(world: World) -> None:
    require(world)
    answer = client_of(world, "mia").get(f"/o/{world.acme.slug}/keys/", headers={"HX-Request": "true"})
    assert answer.headers["HX-Redirect"] == f"/o/{world.acme.slug}/"


def test_why_a_call_would_pass_is_told_to_nobody_without_one(world: World) -> None:
    require(world)
    assert client_of(world, "mia").get(f"/api/v1/explain?key={world.key.public_id}").status_code == 404


def test_strangers_still_learn_nothing(world: World) -> None:
    require(world)
    assert client_of(world, "charlie").get(f"/o/{world.acme.slug}/keys/").status_code == 404


def test_the_personal_account_stays_open(world: World) -> None:
    require(world)
    client = client_of(world, "mia")
    own = Organization.objects.get(kind="personal", memberships__user=world.mia)
    assert client.get(f"/o/{own.slug}/keys/").status_code == 200
    assert client.get("/account/").status_code == 200


def test_who_has_one_passes_and_who_gives_it_up_does_not(world: World) -> None:
    require(world)
    client = client_of(world, "mia")
    give_app(world.mia)
    assert client.get(f"/o/{world.acme.slug}/keys/").status_code == 200
    Authenticator.objects.filter(user=world.mia).delete()
    assert client.get(f"/o/{world.acme.slug}/keys/").status_code == 403


def test_recovery_codes_alone_are_no_second_factor(world: World) -> None:
    Authenticator.objects.create(user=world.mia, type=Authenticator.Type.RECOVERY_CODES, data={})
    assert not has_second_factor(world.mia)


def test_who_would_be_kept_out_is_counted(world: World) -> None:
    give_app(world.lena)
    suspend_member(world.actor("noah").memberships[0], by=world.actor("alice"))
    assert {user.name for user in people_without_second_factor(world.acme)} == {"Alice", "Sam", "Mia"}
    page = client_of(world, "alice").get(page_of(world)).content.decode()
    assert "3 members have none yet" in page


def test_the_rule_is_for_who_follows_it(world: World) -> None:
    answer = client_of(world, "alice").post(page_of(world), form_of(world, second_factor_required="on"))
    assert answer.status_code == 422
    assert "this would keep you out, too" in answer.content.decode()
    assert not Organization.objects.get(pk=world.acme.pk).second_factor_required
    give_app(world.alice)
    answer = client_of(world, "alice").post(page_of(world), form_of(world, second_factor_required="on"))
    assert answer.status_code == 302
    assert Organization.objects.get(pk=world.acme.pk).second_factor_required
    [event] = AuditEvent.objects.filter(organization=world.acme, action="organization.changed")
    assert (event.before, event.after) == ({"second_factor_required": False}, {"second_factor_required": True})


def test_the_service_asks_too(world: World) -> None:
    with pytest.raises(Refused, match="keep you out"):
        change_settings(world.acme, by=world.actor("alice"), second_factor_required=True)


def test_a_personal_account_makes_no_rules_for_itself(world: World) -> None:
    own = Organization.objects.get(kind="personal", memberships__user=world.mia)
    page = client_of(world, "mia").get(f"/o/{own.slug}/settings/").content.decode()
    assert "second_factor_required" not in page


def test_the_question_costs_one_query_where_it_is_asked(world: World, django_assert_num_queries: DjangoAssertNumQueries) -> None:
    require(world)
    client: Client = client_of(world, "mia")
    client.get(f"/o/{world.acme.slug}/keys/")
    # session, person, memberships with their organisations, grants, factor.
    with django_assert_num_queries(5):
        client.get(f"/o/{world.acme.slug}/keys/")
