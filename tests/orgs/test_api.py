"""What the API answers, through its routes: who asks, what is sent, how lists go on."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import pytest
from allauth.mfa.models import Authenticator
from django.core.cache import cache
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from orgs.api.authentication import PersonThrottle
from orgs.api.organizations import ChangedOrganization
from orgs.forms import SettingsForm
from orgs.models import AccessToken, ApiKey, AuditEvent, Group, Membership, Organization, RoleGrant, User
from orgs.permissions import Permission
from orgs.services.freezing import freeze_organization, freeze_person
from orgs.services.groups import create_group
from orgs.services.invitations import accept, find
from orgs.services.roles import create_role
from orgs.services.tokens import revoke_token
from orgs.viewing import start
from tests.actors import World, operator
from tests.apis import Api, Json, api, code, token


# --- who asks -----------------------------------------------------------------------------------
def test_a_token_is_its_person_in_its_scopes(world: World) -> None:
    sam = api(world, "sam", "groups:read", "keys:write")
    assert [group["name"] for group in sam("get", "/groups")["data"]] == ["core", "gateway", "platform"]
    assert code(sam("post", "/groups", {"parent_id": world.platform.pk, "name": "x"}, status=403)) == "scope_missing"
    assert code(sam("get", "/members", status=403)) == "scope_missing"
    assert sam("get", "/keys")["data"][0]["id"] == world.key.pk
    assert sam("post", f"/keys/{world.key.pk}/disable")["status"] == "disabled"
    used = AccessToken.objects.get(user=world.sam)
    assert used.last_used_at is not None


def test_an_invitation_to_a_role_needs_the_scope_of_roles_too(world: World) -> None:
    """Or a token for invitations alone could make its holder's next account a Super Admin."""
    wanted = {"group_id": world.root.pk, "role": "admin"}
    ask = api(world, "alice", "invites:write")
    assert code(ask("post", "/invitations", wanted, status=403)) == "scope_missing"
    ask("post", "/invitations", {"group_id": world.root.pk}, status=201)
    api(world, "alice", "invites:write", "roles:write")("post", "/invitations", wanted, status=201)


@pytest.mark.parametrize(
    "header", ["Bearer gh_pat_abc", "Bearer ", "Basic eDp5", "Bearer gh_pat_aaaaaaaaaaaa_" + "a" * 43, "Bearer \x00é", "bearer"]
)
def test_what_is_no_token_is_refused(world: World, header: str) -> None:
    response = Client(headers={"Authorization": header}).get("/api/v1/organizations")
    assert (response.status_code, code(response.json())) == (401, "unauthenticated")
    assert response.headers["WWW-Authenticate"] == "Bearer"


def test_a_token_that_ended_was_revoked_or_whose_person_was_frozen_is_none(world: World) -> None:
    made, text = token(world.mia)
    ask = Api(world, text)
    ask("get", "/me")
    AccessToken.objects.filter(pk=made.pk).update(expires_at=timezone.now())
    ask("get", "/me", status=401)
    again = Api(world, token(world.mia)[1])
    revoke_token(AccessToken.objects.get(user=world.mia, revoked_at=None, expires_at__gt=timezone.now()))
    again("get", "/me", status=401)
    frozen = Api(world, token(world.mia)[1])
    freeze_person(world.mia, reason="x", by=operator())
    frozen("get", "/me", status=401)


def test_a_session_may_too_but_changes_need_the_token_of_its_pages(world: World) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(world.alice)
    url = f"/api/v1/organizations/{world.acme.slug}"
    assert client.get(url).json()["slug"] == world.acme.slug
    refused = client.patch(url, {"name": "Forged"}, content_type="application/json")
    assert (refused.status_code, code(refused.json())) == (403, "csrf_failed")
    client.get("/tokens/")
    headers = {"X-CSRFToken": client.cookies["csrftoken"].value}
    assert client.patch(url, {"week_start": 6}, content_type="application/json", headers=headers).json()["week_start"] == 6


def test_a_session_that_looks_as_somebody_else_looks_so_here_and_changes_nothing(world: World) -> None:
    client = Client()
    client.force_login(world.alice)
    url, session = f"/api/v1/organizations/{world.acme.slug}", client.session
    start(session, world.mia, by=world.actor("alice"))
    session.save()
    assert client.get(f"{url}/me").json()["email"] == world.mia.email
    refused = client.patch(url, {"week_start": 6}, content_type="application/json")
    assert (refused.status_code, code(refused.json())) == (403, "only_looking")
    assert client.get(f"{url}/audit-events").status_code == 403
    assert not AuditEvent.objects.filter(organization=world.acme, action="access.denied").exists()
    assert api(world, "alice")("get", "/me")["email"] == world.alice.email


def test_a_frozen_organisation_says_so(world: World) -> None:
    ask = api(world, "alice")
    freeze_organization(world.acme, reason="x", by=operator())
    assert code(ask("get", "/groups", status=403)) == "organization_frozen"


def test_an_organisation_that_requires_a_second_factor_says_so(world: World) -> None:
    ask = api(world, "alice")
    Organization.objects.filter(pk=world.acme.pk).update(second_factor_required=True)
    assert code(ask("get", "/groups", status=403)) == "second_factor_required"
    Authenticator.objects.create(user=world.alice, type=Authenticator.Type.TOTP, data={})
    assert ask("get", "/groups")["data"]


def test_there_is_a_limit_to_asking(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    ask = api(world, "mia")
    cache.delete(f"api-rate:u{world.mia.pk}")
    monkeypatch.setattr(PersonThrottle, "rate", "2/hour")
    ask("get", "/me")
    ask("get", "/me")
    response = ask.client.get(f"{ask.base}/me")
    assert (response.status_code, code(response.json())) == (429, "rate_limited")
    assert int(response.headers["Retry-After"]) > 0
    assert "no-store" in response.headers["Cache-Control"]


def test_a_missing_permission_is_named_and_recorded(world: World) -> None:
    refused = api(world, "mia")("post", "/groups", {"parent_id": world.gateway.pk, "name": "x"}, status=403)
    assert code(refused) == "permission_missing"
    assert AuditEvent.objects.filter(organization=world.acme, action="access.denied", actor=world.mia).count() == 1


# --- what is sent -------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("body", "status", "expected", "param"),
    [
        ("{", 400, "invalid_json", None),
        ("[]", 422, "invalid", None),
        ("{}", 422, "invalid", "name"),
        ('{"name": "x", "parent_id": "y"}', 422, "invalid", "parent_id"),
        ('{"name": "x", "parent_id": 1e400}', 422, "invalid", "parent_id"),
        ('{"name": "a\\u0000b", "parent_id": 1}', 422, "invalid", "name"),
        ('{"name": "\\ud800", "parent_id": 1}', 422, "invalid", "name"),
        ('{"name": "x", "parent_id": 9223372036854775808}', 422, "invalid", "parent_id"),
        ("[" * 100_000, 400, "invalid_json", None),
        ('{"name": "' + "x" * 2**20 * 3 + '"}', 413, "body_too_large", None),
        ('{"name": "x", "parent_id": 1, "nmae": 1}', 422, "invalid", "nmae"),
        ('{"name": "x", "parent_id": 9223372036854775807}', 404, "not_found", None),
    ],
    ids=lambda value: str(value)[:40],
)
def test_bad_bodies_are_told_what_is_wrong(world: World, body: str, status: int, expected: str, param: str | None) -> None:
    ask, count = api(world, "alice"), Group.objects.count()
    response = ask.client.post(f"{ask.base}/groups", body, content_type="application/json")
    assert (response.status_code, code(response.json()), response.json()["error"]["param"]) == (status, expected, param)
    assert Group.objects.count() == count


def test_forms_and_other_methods_are_refused_in_the_same_shape(world: World) -> None:
    ask = api(world, "alice")
    assert code(ask.client.post(f"{ask.base}/groups", {"name": "x"}).json()) == "unsupported_media_type"
    assert code(ask("put", "/groups", {}, status=405)) == "method_not_allowed"
    assert code(ask("get", "/groups/999999999999999999999999", status=404)) == "not_found"


@pytest.mark.parametrize(
    "path", ["nothing", "", "organizations/LS%0A/applications", "organizations/acme/groups%0A", "%0A", "\u2028"]
)
def test_an_address_that_is_none_is_told_as_json(client: Client, path: str) -> None:
    for method in ("get", "post", "delete"):
        response = client.generic(method, f"/api/v1/{path}")
        assert (response.status_code, response.headers["content-type"]) == (404, "application/json")
        assert code(response.json()) == "not_found"


# --- lists --------------------------------------------------------------------------------------
def test_a_list_goes_on_by_cursor_whatever_is_added_meanwhile(world: World) -> None:
    ask, every = api(world, "alice"), list(Group.objects.filter(organization=world.acme).order_by("-pk"))
    found, cursor = [], ""
    while True:
        page = ask("get", f"/groups?limit=2{cursor}")
        found += [group["id"] for group in page["data"]]
        create_group(world.sales, name=f"new {len(found)}", by=world.actor("alice"))
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert found == [group.pk for group in every]


@pytest.mark.parametrize("cursor", ["x", "%00", "é", "LTE%3D%3D", "OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTk5"])
def test_a_cursor_that_no_list_gave_is_refused_or_leads_nowhere_harmful(world: World, cursor: str) -> None:
    ask = api(world, "alice")
    for path in ("/groups", "/ledger", "/audit-events"):
        response = ask.client.get(f"{ask.base}{path}?cursor={cursor}")
        assert response.status_code in (200, 400, 422)


@pytest.mark.parametrize(
    ("path", "param"),
    [
        ("/groups?limit=0", "limit"),
        ("/groups?limit=many", "limit"),
        ("/groups?parnet=1", "parnet"),
        ("/members/1?limit=5", "limit"),
        ("/me?name=x", "name"),
        ("/members?group=%00", "group"),
        ("/members?email=%00", "email"),
        ("/keys?status=gone", "status"),
        ("/audit-events?since=yesterday", "since"),
        ("/audit-events?since=2026-01-31T12:00:00", "since"),
        ("/audit-events?until=9999-12-31T23:59:59Z", "until"),
        ("/usage?period=90d", "period"),
        ("/ledger?status=lost", "status"),
    ],
)
def test_a_query_that_makes_no_sense_is_refused_and_not_left_out(world: World, path: str, param: str) -> None:
    refused = api(world, "alice")("get", path, status=422)
    assert (code(refused), refused["error"]["param"]) == ("invalid", param)


def test_lists_are_narrowed(world: World) -> None:
    ask, acme = api(world, "alice"), world.acme
    mia, sam = (Membership.objects.get(user=user, organization=acme) for user in (world.mia, world.sam))

    def found(path: str) -> list[int]:
        return [one["id"] for one in ask("get", path)["data"]]

    assert found(f"/members?email={world.mia.email.upper()}") == [mia.pk]
    assert found(f"/members?group={world.platform.pk}") == sorted([mia.pk, sam.pk], reverse=True)
    assert found(f"/groups?parent_id={world.platform.pk}&name=&limit=100") == [world.gateway.pk]
    assert found("/groups?name=gateway") == [world.gateway.pk]
    assert found("/applications?slug=assistant") == found(f"/applications?group={world.engineering.pk}") == [world.assistant.pk]
    assert found(f"/applications?group={world.sales.pk}") == found(f"/applications?group={world.other.root.pk}") == []
    assert found(f"/roles?user={world.sam.pk}") == found(f"/roles?group={world.platform.pk}")
    assert len(found(f"/roles?user={world.sam.pk}")) == 1


# --- each resource ------------------------------------------------------------------------------
def test_organisations(world: World) -> None:
    ask = api(world, "alice")
    assert {one["slug"] for one in ask.client.get("/api/v1/organizations").json()["data"]} >= {world.acme.slug}
    slug = f"beside-{world.acme.slug}"
    wanted = json.dumps({"name": "Beside", "slug": slug, "time_zone": "Asia/Tokyo"})
    made = ask.client.post("/api/v1/organizations", wanted, content_type="application/json")
    assert (made.status_code, made.json()["kind"], made.json()["slug"]) == (201, "company", slug)
    again = ask.client.post("/api/v1/organizations", wanted, content_type="application/json")
    assert (again.status_code, again.json()["error"]["param"]) == (422, "slug")
    assert ask("patch", "", {"fiscal_month": 4, "time_zone": "Europe/Berlin"})["fiscal_month"] == 4
    assert code(ask("patch", "", {"time_zone": "Mars"}, status=422)) == "refused"
    assert ask("get", "/me")["role"] == "Super Admin"


@pytest.mark.parametrize(("is_open", "is_staff", "status"), [(False, False, 403), (True, False, 201), (False, True, 201)])
def test_organisations_are_made_by_whom_the_installation_lets(
    world: World, settings: Settings, is_open: bool, is_staff: bool, status: int
) -> None:
    settings.ORGANIZATIONS_OPEN = is_open
    User.objects.filter(pk=world.alice.pk).update(is_staff=is_staff)
    before = Organization.objects.count()
    made = api(world, "alice").client.post("/api/v1/organizations", '{"name": "New"}', content_type="application/json")
    assert (made.status_code, Organization.objects.count() - before) == (status, int(status == 201))
    assert status == 201 or code(made.json()) == "organizations_closed"


def test_the_settings_are_those_of_the_page(world: World) -> None:
    """A second factor is asked of nobody by somebody without one."""
    ask = api(world, "alice")
    assert set(SettingsForm.AS_THEY_ARE) <= set(ask("get", ""))
    assert set(ChangedOrganization().fields) == {*SettingsForm.AS_THEY_ARE, "approval_since"}
    assert ask("patch", "", {"content_sample_percent": 7})["content_sample_percent"] == 7
    ask("patch", "", {"content_sample_percent": 0}, status=422)
    refused = ask("patch", "", {"second_factor_required": True}, status=422)
    assert (code(refused), refused["error"]["param"]) == ("refused", "second_factor_required")
    Authenticator.objects.create(user=world.alice, type=Authenticator.Type.TOTP, data={})
    assert ask("patch", "", {"second_factor_required": True})["second_factor_required"]
    naive = ask("patch", "", {"approval_since": "2026-01-31T12:00:00"}, status=422)
    assert naive["error"]["param"] == "approval_since"


def test_groups(world: World) -> None:
    ask = api(world, "alice")
    about = {"kind": "project", "cost_center": "4711", "owner_id": world.mia.pk}
    made = ask("post", "/groups", {"parent_id": world.sales.pk, "name": "West", **about}, status=201)
    assert (made["level"], made["owner_id"], made["parent_id"]) == (2, world.mia.pk, world.sales.pk)
    path = f"/groups/{made['id']}"
    assert ask("patch", path, {"name": "East", "owner_id": None}) == ask("get", path)
    assert ask("post", f"{path}/move", {"parent_id": world.engineering.pk})["parent_id"] == world.engineering.pk
    assert ask("post", f"{path}/archive")["archived_at"]
    assert ask("post", f"{path}/restore")["archived_at"] is None
    deep = ask("post", "/groups", {"parent_id": world.core.pk, "name": "fifth"}, status=422)
    assert (code(deep), deep["error"]["param"]) == ("refused", "parent_id")


def test_members_and_roles(world: World) -> None:
    ask, mia = api(world, "alice"), Membership.objects.get(user=world.mia, organization=world.acme)
    assert ask("get", f"/members/{mia.pk}")["user"] == {"id": world.mia.pk, "email": world.mia.email, "name": "Mia"}
    assert (
        ask("post", "/members", {"user_id": world.mia.pk, "group_id": world.field.pk}, status=201)["group_id"] == world.field.pk
    )
    ask("post", "/members", {"user_id": world.charlie.pk, "group_id": world.field.pk}, status=404)
    assert ask("post", f"/members/{mia.pk}/suspend")["suspended_at"]
    assert ask("post", f"/members/{mia.pk}/resume")["suspended_at"] is None
    role = ask("post", "/roles", {"user_id": world.mia.pk, "group_id": world.field.pk, "role": "auditor"}, status=201)
    assert ask("get", f"/roles/{role['id']}")["name"] == "Auditor"
    ask("delete", f"/roles/{role['id']}", status=204)
    last = RoleGrant.objects.get(user=world.alice, organization=world.acme)
    assert code(ask("delete", f"/roles/{last.pk}", status=422)) == "refused"


def test_members_move_and_go(world: World) -> None:
    ask, mia = api(world, "alice"), Membership.objects.get(user=world.mia, organization=world.acme)
    role = {"user_id": world.mia.pk, "group_id": world.gateway.pk, "role": "auditor"}
    ask("post", "/roles", role, status=201)
    path = f"/members/{mia.pk}"
    assert ask("post", f"{path}/move", {"group_id": world.sales.pk, "keep_roles": True})["group_id"] == world.sales.pk
    assert RoleGrant.objects.filter(user=world.mia, organization=world.acme, role="auditor").exists()
    assert ApiKey.objects.get(pk=world.key.pk).group_id == world.sales.pk
    assert ask("post", f"{path}/move", {"group_id": world.sales.pk}, status=422)["error"]["param"] == "group_id"
    ask("post", f"{path}/move", {"group_id": world.other.root.pk}, status=404)
    ask("delete", path, status=204)
    assert not Membership.objects.filter(pk=mia.pk).exists()
    assert ApiKey.objects.get(pk=world.key.pk).revoked_at
    last = Membership.objects.get(user=world.alice, organization=world.acme)
    assert code(ask("delete", f"/members/{last.pk}", status=422)) == "refused"


def test_custom_roles(world: World) -> None:
    ask, sam = api(world, "alice"), api(world, "sam")
    wanted = {"group_id": world.platform.pk, "name": "Lead", "permissions": ["manage_keys"]}
    made = ask("post", "/custom-roles", wanted, status=201)
    path = f"/custom-roles/{made['id']}"
    assert ask("patch", path, {"description": "Of keys"}) == ask("get", path) == {**made, "description": "Of keys"}
    assert [one["id"] for one in ask("get", "/custom-roles")["data"]] == [made["id"]]
    grant = {"user_id": world.mia.pk, "custom_role_id": made["id"], "group_id": world.gateway.pk}
    given = sam("post", "/roles", grant, status=201)
    assert (given["name"], given["role"], given["custom_role_id"]) == ("Lead", "", made["id"])
    assert ask("post", "/roles", {**grant, "group_id": world.sales.pk}, status=422)["error"]["param"] == "role"
    assert code(ask("delete", path, status=422)) == "refused"
    ask("delete", f"/roles/{given['id']}", status=204)
    # Nobody makes or changes a role that allows more than they may do there.
    more = {**wanted, "name": "More", "permissions": ["manage_settings"]}
    assert code(sam("post", "/custom-roles", more, status=403)) == "permission_missing"
    assert code(sam("patch", path, {"permissions": ["manage_settings"]}, status=403)) == "permission_missing"
    ask("delete", path, status=204)
    ask("get", path, status=404)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "role"),
        ({"role": "auditor", "custom_role_id": 1}, "custom_role_id"),
        ({"role": "owner"}, "role"),
        ({"custom_role_id": 0}, "custom_role_id"),
    ],
)
def test_a_grant_is_of_one_role(world: World, body: Json, param: str) -> None:
    whom = {"user_id": world.mia.pk, "group_id": world.gateway.pk}
    assert api(world, "alice")("post", "/roles", {**whom, **body}, status=422)["error"]["param"] == param


def test_the_link_of_an_invitation_is_given_once_and_opens_it(world: World, mailoutbox: list[Any]) -> None:
    ask = api(world, "sam")
    role = create_role(world.platform, name="Lead", permissions=[Permission.MANAGE_KEYS], by=world.actor("alice"))
    made = ask("post", "/invitations", {"group_id": world.gateway.pk, "custom_role_id": role.pk}, status=201)
    found = find(made["link"].rstrip("/").rpartition("/")[2])
    assert found is not None
    assert found.invitation.pk == made["invitation"]["id"]
    assert accept(found, user=world.noah).group_id == world.gateway.pk
    assert RoleGrant.objects.filter(user=world.noah, custom_role=role, group=world.gateway).exists()
    later = json.dumps([ask("get", "/invitations"), ask("get", f"/invitations/{found.invitation.pk}")])
    assert made["link"].rstrip("/").rpartition("/")[2] not in later
    wrong = ask("post", "/invitations", {"group_id": world.gateway.pk, "send": True}, status=422)
    assert wrong["error"]["param"] == "email"


def test_applications(world: World) -> None:
    ask = api(world, "sam")
    made = ask("post", "/applications", {"name": "Bot", "group_id": world.gateway.pk, "features": ["a"]}, status=201)
    path = f"/applications/{made['id']}"
    assert ask("patch", path, {"environments": ["live"], "group_id": world.platform.pk}) == ask("get", path)
    assert ask("get", path)["group_id"] == world.platform.pk
    assert ask("post", f"{path}/archive")["archived_at"]
    assert ask("post", f"{path}/restore")["archived_at"] is None
    assert {one["name"] for one in api(world, "mia")("get", "/applications")["data"]} == {"Assistant", "Bot"}
    assert api(world, "noah")("get", "/applications")["data"] == []


def test_audit_events_as_they_are_hashed(world: World) -> None:
    found = api(world, "alice")("get", f"/audit-events?action=key.created&target=apikey:{world.key.pk}")["data"]
    event = AuditEvent.objects.get(organization=world.acme, action="key.created")
    assert found == [{"facts": event.facts(), "actor_name": "Mia", "hash": event.hash}]
    ask = api(world, "alice")
    assert ask("get", f"/audit-events/{event.sequence}") == found[0]
    moment = quote(event.at.isoformat())
    assert ask("get", f"/audit-events?action=key.created&since={moment}")["data"] == found
    assert ask("get", f"/audit-events?action=key.created&until={moment}")["data"] == []


# --- tokens -------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("whole", "may", "may_not"),
    [
        ("read", {"keys:read", "usage:read", "groups:read"}, {"keys:write", "groups:write"}),
        ("write", {"keys:write", "usage:read", "groups:write"}, set()),
    ],
)
def test_a_token_for_everything_is_one_choice(world: World, whole: str, may: set[str], may_not: set[str]) -> None:
    client = Client()
    client.force_login(world.mia)
    wanted = {"name": "ci", "days": "30", "whole": whole, "write": ["keys"]}
    text = client.post("/tokens/", wanted).content.decode()
    scopes = set(AccessToken.objects.get(user=world.mia).scopes)
    assert (scopes >= may, scopes & may_not, len(scopes)) == (True, set(), 14)
    assert f">everything:{whole}<" in text
    assert client.post("/tokens/", {**wanted, "whole": "all"}).status_code == 422
    assert client.post("/tokens/", {"name": "ci", "days": "30", "whole": ""}).status_code == 422, "of nothing none is made"


def test_a_person_makes_and_revokes_tokens_on_a_page(world: World) -> None:
    client = Client()
    client.force_login(world.mia)
    wanted = {"name": "ci", "days": "30", "read": ["groups", "usage"], "write": ["keys"]}
    text = client.post("/tokens/", wanted).content.decode()
    made = AccessToken.objects.get(user=world.mia)
    assert made.scopes == ["groups:read", "keys:write", "usage:read"]
    assert f"gh_pat_{made.public_id}_" in text
    again = client.get("/tokens/").content.decode()
    assert f"gh_pat_{made.public_id}_" not in again
    assert made.prefix in again
    other = Client()
    other.force_login(world.sam)
    assert other.post(f"/tokens/{made.pk}/revoke/").status_code == 404
    assert client.post(f"/tokens/{made.pk}/revoke/").status_code == 302
    assert "No access token yet" in client.get("/tokens/").content.decode()
    trail = AuditEvent.objects.filter(object_type="accesstoken", object_id=str(made.pk)).order_by("pk")
    assert [(event.action, event.organization) for event in trail] == [("api_token.created", None), ("api_token.revoked", None)]
    assert b"gh_pat" not in json.dumps([event.facts() for event in trail]).encode()


@pytest.mark.parametrize(
    ("wrong", "field"),
    [({"name": ""}, "name"), ({"days": "9999"}, "days"), ({"read": [], "write": []}, "read"), ({"write": ["audit"]}, "write")],
)
def test_a_token_form_says_what_is_wrong_and_keeps_what_was_typed(world: World, wrong: Json, field: str) -> None:
    client = Client()
    client.force_login(world.mia)
    response = client.post("/tokens/", {"name": "my script", "days": "30", "read": ["groups"], **wrong})
    assert response.status_code == 422
    assert field in response.context["form"].errors
    assert not AccessToken.objects.filter(user=world.mia).exists()
