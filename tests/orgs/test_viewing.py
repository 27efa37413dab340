"""View as: whom one may look as, that nothing can be changed meanwhile, and that start and end are audited."""

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from orgs.models import ApiKey, AuditEvent, Membership, User
from orgs.permissions import RoleName
from orgs.services.members import add_member, grant_role, suspend_member
from orgs.services.tokens import create_token
from orgs.viewing import VIEWING, may_view_as
from tests.actors import World, signed_in


def begin(client: Client, world: World, name: str) -> Any:
    membership = Membership.objects.get(organization=world.acme, user=getattr(world, name))
    return client.post(f"/o/{world.acme.slug}/view-as/{membership.pk}/")


def looking(world: World, name: str, as_whom: str) -> Client:
    client = signed_in(world, name)
    assert begin(client, world, as_whom).status_code == 302
    assert VIEWING in client.session
    return client


def keys_page(client: Client, world: World) -> Any:
    return client.get(f"/o/{world.acme.slug}/keys/")


def actions(world: World) -> list[tuple[str, str]]:
    events = AuditEvent.objects.filter(organization=world.acme, action__startswith="view_as").order_by("pk")
    return [(event.action, f"{event.actor} → {event.object_label}") for event in events]


@pytest.mark.parametrize(
    ("by", "others"),
    [
        ("alice", {"lena", "sam", "mia", "noah"}),
        ("lena", {"sam", "mia"}),
        ("sam", {"mia"}),
        ("mia", set()),
        ("noah", set()),
    ],
)
def test_people_look_as_those_who_wholly_stand_below_them(world: World, by: str, others: set[str]) -> None:
    actor = world.actor(by)
    people = ("alice", "lena", "sam", "mia", "noah")
    assert {name for name in people if may_view_as(actor, world.actor(name))} == others
    page = signed_in(world, by).get(f"/o/{world.acme.slug}/view-as/")
    listed = {membership.user.name.lower() for membership in page.context.get("people", [])} if page.status_code == 200 else set()
    assert listed == others


def test_a_members_page_begins_it_where_one_may(world: World) -> None:
    def offered(client: Client, name: str) -> bool:
        page = client.get(f"/o/{world.acme.slug}/members/{getattr(world, name).pk}/")
        assert page.status_code == 200
        return "/view-as/" in page.content.decode().partition("<h1")[2].partition("gh-grid")[0]

    alice, lena = signed_in(world, "alice"), signed_in(world, "lena")
    assert [offered(alice, name) for name in ("alice", "lena", "mia")] == [False, True, True]
    assert [offered(lena, name) for name in ("lena", "sam")] == [False, True]
    assert not offered(looking(world, "alice", "lena"), "mia")


def test_nobody_looks_as_an_equal_or_as_somebody_who_stands_elsewhere_too(world: World) -> None:
    alice = world.actor("alice")
    grant_role(world.mia, role=RoleName.ADMIN, group=world.platform, by=alice)
    assert not may_view_as(world.actor("sam"), world.actor("mia"))  # as much as sam
    assert may_view_as(world.actor("lena"), world.actor("mia"))
    add_member(world.sam, group=world.field, by=alice)
    assert not may_view_as(world.actor("lena"), world.actor("sam"))  # beside lena too
    grant_role(world.lena, role=RoleName.ADMIN, group=world.root, by=alice)
    assert not may_view_as(alice, world.actor("lena"))
    grant_role(world.noah, role=RoleName.AUDITOR, group=world.root, by=alice)
    assert may_view_as(alice, world.actor("noah"))  # sees as much, does less
    assert not may_view_as(world.actor("lena"), world.actor("charlie"))


@pytest.mark.parametrize("name", ["lena", "alice"])
def test_looking_as_somebody_above_is_refused_and_audited_as_nothing(world: World, name: str) -> None:
    add_member(getattr(world, name), group=world.gateway, by=world.actor("alice"))
    membership = Membership.objects.get(group=world.gateway, user=getattr(world, name))
    client = signed_in(world, "sam")
    page = client.post(f"/o/{world.acme.slug}/view-as/{membership.pk}/", follow=True)
    assert "below your own role only" in page.content.decode()
    assert VIEWING not in client.session
    assert actions(world) == []


def test_the_console_is_the_others_and_says_so(world: World) -> None:
    client = looking(world, "alice", "mia")
    response = keys_page(client, world)
    page = response.content.decode()
    assert response.context["request"].actor.user == world.mia
    assert [row.key for row in response.context["rows"]] == [world.key]
    assert "You see the console as <strong>Mia</strong> (Member)" in page
    assert "Super Admin" in page  # who looks is still named
    assert client.get(f"/o/{world.acme.slug}/settings/").status_code == 403
    assert "/o/" + world.acme.slug + "/settings/" not in page


def test_every_unsafe_method_is_refused(world: World) -> None:
    client = looking(world, "alice", "mia")
    for path in ("disable/", "limits/", "rotate/", "edit/", "delete/"):
        address = f"/o/{world.acme.slug}/keys/{world.key.pk}/{path}"
        response = client.post(address, {"confirm": world.key.name, "name": "Changed", "grace": "none"})
        assert response.status_code == 403
        assert "can change nothing" in response.content.decode()
        # Where a view takes no such method at all, that is said first.
        assert {getattr(client, method)(address).status_code for method in ("put", "patch", "delete")} <= {403, 405}
    key = ApiKey.objects.get(pk=world.key.pk)
    assert (key.status, key.name, bytes(key.digest)) == ("active", world.key.name, bytes(world.key.digest))


def test_no_call_is_made_in_the_others_name(world: World) -> None:
    response = looking(world, "alice", "mia").post(f"/o/{world.acme.slug}/playground/keys/{world.key.pk}/call/")
    assert response.status_code == 403


def test_start_and_end_are_audited_in_the_name_of_whoever_looked(world: World) -> None:
    client = looking(world, "lena", "sam")
    assert client.post("/view-as/end/").headers["location"] == f"/o/{world.acme.slug}/"
    assert keys_page(client, world).context["request"].actor.user == world.lena
    client.post("/view-as/end/")  # nothing to end
    assert actions(world) == [("view_as.started", "Lena → Sam"), ("view_as.ended", "Lena → Sam")]


def test_what_is_taken_along_is_audited_in_the_name_of_whoever_looked(world: World) -> None:
    looking(world, "alice", "lena").get(f"/o/{world.acme.slug}/audit/export/")
    assert AuditEvent.objects.get(organization=world.acme, action="audit.exported").actor == world.alice


def test_who_wants_to_look_around_elsewhere_stops_first(world: World) -> None:
    charlie = world.actor("charlie")
    add_member(world.lena, group=world.other.root, by=charlie)
    grant_role(world.lena, role=RoleName.ADMIN, group=world.other.root, by=charlie)
    mia = add_member(world.mia, group=world.other.root, by=charlie)
    client = looking(world, "lena", "sam")
    address = f"/o/{world.other.slug}/view-as/{mia.pk}/"
    assert client.post(address).status_code == 403
    client.post("/view-as/end/")
    client.post(address)
    assert client.session[VIEWING]["organization"] == world.other.pk
    assert [action for action, _ in actions(world)] == ["view_as.started", "view_as.ended"]


def test_signing_out_ends_it(world: World) -> None:
    client = looking(world, "lena", "sam")
    client.post("/accounts/logout/")
    assert [action for action, _ in actions(world)] == ["view_as.started", "view_as.ended"]


@pytest.mark.parametrize("why", ["time", "promoted", "left", "demoted"])
def test_what_may_be_no_longer_ends_at_the_next_page(world: World, why: str) -> None:
    client = looking(world, "lena", "sam")
    if why == "time":
        session = client.session
        session[VIEWING] |= {"until": (timezone.now() - timedelta(seconds=1)).isoformat()}
        session.save()
    elif why == "promoted":
        grant_role(world.sam, role=RoleName.ADMIN, group=world.engineering, by=world.actor("alice"))
    elif why == "left":
        suspend_member(Membership.objects.get(user=world.sam, organization=world.acme), by=world.actor("alice"))
    else:
        world.actor("lena").grants[0].delete()
    assert keys_page(client, world).context["request"].actor.user == world.lena
    assert VIEWING not in client.session
    assert actions(world)[-1] == ("view_as.ended", "Lena → Sam")


def test_an_organisation_that_is_gone_ends_it(world: World) -> None:
    client = looking(world, "alice", "mia")
    session = client.session
    session[VIEWING] |= {"organization": 0}
    session.save()
    assert keys_page(client, world).status_code == 200
    assert VIEWING not in client.session


def test_another_organisation_is_seen_with_ones_own_eyes(world: World) -> None:
    add_member(world.alice, group=world.other.root, by=world.actor("charlie"))
    client = looking(world, "alice", "mia")
    page = client.get(f"/o/{world.other.slug}/keys/")
    assert page.context["request"].actor.user == world.alice
    assert "You see the console as" not in page.content.decode()
    assert f"You look at {world.acme} as <strong>Mia</strong>" in page.content.decode()
    assert VIEWING in client.session
    assert client.post(f"/o/{world.other.slug}/applications/new/", {"name": "Bot"}).status_code == 403


# The person's own pages, allauth's among them, the operator's, and an invitation.
ELSEWHERE = (
    "/account/", "/tokens/", "/organizations/new/", "/accounts/email/", "/accounts/sessions/", "/accounts/password/change/",
    "/accounts/2fa/", "/accounts/social/connections/", "/accounts/logout/", "/platform/", "/invite/unknown/",
)  # fmt: skip


@pytest.mark.parametrize("address", ELSEWHERE)
def test_every_page_elsewhere_says_so(world: World, address: str) -> None:
    User.objects.filter(pk=world.alice.pk).update(is_staff=True)
    page = looking(world, "alice", "mia").get(address, follow=True).content.decode()
    assert f"You look at {world.acme} as <strong>Mia</strong> (Member)." in page
    assert 'action="/view-as/end/"' in page
    assert "You look at" not in signed_in(world, "alice").get(address, follow=True).content.decode()


@pytest.mark.parametrize("address", [*(one for one in ELSEWHERE if one != "/accounts/logout/"), "/account/sessions/end-others/"])
def test_every_change_elsewhere_is_refused_with_the_same_words(world: World, address: str) -> None:
    User.objects.filter(pk=world.alice.pk).update(is_staff=True)
    client = looking(world, "alice", "mia")
    answer = client.post(address, {"name": "Changed", "read": ["usage"], "days": "30"})
    assert answer.status_code == 403
    assert "can change nothing" in answer.content.decode()
    assert User.objects.get(pk=world.alice.pk).name == "Alice"
    assert not world.alice.access_tokens.exists()


def test_a_session_that_looks_changes_nothing_by_the_api_but_a_token_does(world: World) -> None:
    address = "/api/v1/organizations"
    sent: Any = {"data": {"name": "Theirs", "slug": "theirs-of-the-looking"}, "content_type": "application/json"}
    refused = looking(world, "alice", "mia").post(address, **sent)
    assert (refused.status_code, "can change nothing" in refused.json()["error"]["message"]) == (403, True)
    _, text = create_token(
        world.alice, name="Script", scopes=["organizations:write"], expires_at=timezone.now() + timedelta(days=1)
    )
    made = Client(headers={"Authorization": f"Bearer {text}"}).post(address, **sent)
    assert made.status_code == 201, made.content


def test_nobody_looks_on_from_there(world: World) -> None:
    client = looking(world, "alice", "lena")
    assert begin(client, world, "mia").status_code == 403


@pytest.mark.parametrize("query", ["?q=%00", "?q=nobody", "?q=" + "x" * 500])
def test_a_search_without_a_hit_shows_the_next_step(world: World, query: str) -> None:
    response = signed_in(world, "alice").get(f"/o/{world.acme.slug}/view-as/{query}")
    assert response.status_code == 200
    assert len(response.context["people"]) == (4 if "%00" in query else 0)


def test_people_are_found_by_name_and_address(world: World) -> None:
    for text in ("mia", world.mia.email[:12]):
        people = signed_in(world, "alice").get(f"/o/{world.acme.slug}/view-as/?q={text}").context["people"]
        assert [membership.user for membership in people] == [world.mia]
