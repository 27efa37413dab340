"""The tree and its pages through HTTP: who sees which part, what the forms keep, what a move says before it is made."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from guardrails.models import Policy
from guardrails.services.bindings import bind
from guardrails.services.overrides import add_override
from guardrails.services.policies import LimitSpec, create_policy
from orgs.errors import Refused
from orgs.models import Application, AuditEvent, Group, Membership
from orgs.permissions import Permission, RoleName
from orgs.services.applications import change_application
from orgs.services.departures import remove_member
from orgs.services.groups import archive_group, change_group, create_group
from orgs.services.keys import create_api_key
from orgs.services.members import add_member, grant_role, suspend_member
from orgs.services.roles import create_role
from proxy import provider_keys
from proxy.naming_services import PresetWords, create_alias, create_preset
from proxy.provider_keys import Place
from tests.actors import World, operator, signed_in
from tests.ledger_rows import call_row, insert_calls

HTMX = {"hx-request": "true"}
DOLLAR = 10**9


def url(world: World, path: str = "", *, area: str = "groups") -> str:
    return f"/o/{world.acme.slug}/{area}/{path}"


def shown(response: Any) -> str:
    text: str = response.content.decode()
    return " ".join(text.split())


def rows(world: World, name: str, query: str = "") -> list[tuple[str, int]]:
    nodes = signed_in(world, name).get(url(world) + query).context["nodes"]
    return [(node.group.name, node.depth) for node in nodes]


# --- the tree -------------------------------------------------------------------------------------


def test_everyone_sees_its_own_node_and_below(world: World) -> None:
    below = [("engineering", 1), ("platform", 2), ("gateway", 3), ("core", 4), ("sales", 1), ("field", 2)]
    assert rows(world, "alice") == [(world.acme.name, 0), *below]
    assert rows(world, "lena") == [("engineering", 0), ("platform", 1), ("gateway", 2), ("core", 3)]
    assert rows(world, "sam") == [("platform", 0), ("gateway", 1), ("core", 2)]


def test_two_places_of_one_admin_each_begin_at_the_left(world: World) -> None:
    add_member(world.sam, group=world.field, by=world.actor("alice"))
    grant_role(world.sam, role=RoleName.ADMIN, group=world.field, by=world.actor("alice"))
    assert rows(world, "sam") == [("platform", 0), ("gateway", 1), ("core", 2), ("field", 0)]


def test_each_thing_counts_on_every_group_above_it_and_a_person_once(world: World) -> None:
    alice = world.actor("alice")
    add_member(world.mia, group=world.core, by=alice)
    create_api_key(world.platform, name="service", application=world.assistant, by=alice)
    nodes = signed_in(world, "alice").get(url(world)).context["nodes"]
    assert {node.group.name: tuple(node.counts) for node in nodes if node.group.level} == {
        "engineering": (3, 2, 1, 0),
        "platform": (2, 2, 1, 0),
        "gateway": (1, 1, 0, 0),
        "core": (1, 0, 0, 0),
        "sales": (1, 0, 0, 0),
        "field": (1, 0, 0, 0),
    }
    assert tuple(nodes[0].counts) == (5, 2, 1, 0)


def test_the_tree_a_group_and_the_platform_count_the_same_members_and_say_who_is_suspended(world: World) -> None:
    alice = world.actor("alice")
    add_member(world.mia, group=world.core, by=alice)
    for name, group in (("mia", world.core), ("noah", world.field)):
        suspend_member(Membership.objects.get(user=getattr(world, name), group=group), by=alice)
    client, operators = signed_in(world, "alice"), Client()
    operators.force_login(operator().user)
    nodes = client.get(url(world)).context["nodes"]
    found = {node.group.name: (node.counts.members, node.counts.suspended) for node in nodes}
    assert found | {"core": (1, 1), "gateway": (1, 0), "field": (1, 1), world.root.name: (5, 1)} == found
    assert "1 suspended" in shown(client.get(url(world)))
    assert "(1 suspended)" in shown(client.get(url(world, f"{world.root.pk}/")))
    [row] = operators.get(reverse("platform:organizations"), {"q": world.acme.slug}).context["rows"]
    assert (row.members, row.suspended) == (5, 1)


def test_what_may_be_done_is_offered_and_nothing_else(world: World) -> None:
    nodes = signed_in(world, "sam").get(url(world)).context["nodes"]
    assert [(node.group.name, node.may_manage, node.may_add) for node in nodes] == [
        ("platform", False, True),
        ("gateway", True, True),
        ("core", True, False),
    ]


def test_archived_groups_are_shown_when_asked_for(world: World) -> None:
    archive_group(world.platform, by=world.actor("alice"))
    assert rows(world, "lena") == [("engineering", 0)]
    nodes = signed_in(world, "lena").get(url(world) + "?archived=1").context["nodes"]
    assert [(node.group.name, node.is_archived) for node in nodes][1:] == [("platform", True), ("gateway", True), ("core", True)]


def test_the_tree_takes_the_same_few_queries_however_large_it_is(world: World, django_assert_max_num_queries: Any) -> None:
    alice, client = world.actor("alice"), signed_in(world, "alice")
    for number in range(12):
        create_group(world.sales, name=f"team {number}", owner=world.noah, by=alice)
    client.get(url(world))
    with django_assert_max_num_queries(12) as counted:
        client.get(url(world))
    assert isinstance(counted, CaptureQueriesContext)


@pytest.mark.parametrize("path", ["", "applications"])
def test_the_area_has_its_tabs_and_its_place_in_the_menu(world: World, path: str) -> None:
    response = signed_in(world, "lena").get(url(world, area=path or "groups"))
    assert re.findall(r'aria-current="page">.*?</svg>(.*?)</a>', shown(response)) == [
        "Groups &amp; members",
        "Applications" if path else "Groups",
    ]
    assert "Groups &amp; members" not in shown(signed_in(world, "mia").get(f"/o/{world.acme.slug}/keys/"))


# --- one group ------------------------------------------------------------------------------------


def test_a_page_of_one_group_says_where_it_lies_and_who_answers_for_it(world: World, django_assert_max_num_queries: Any) -> None:
    client = signed_in(world, "lena")
    client.post(url(world, f"{world.platform.pk}/edit/"), {"name": "platform", "owner": world.sam.email, "cost_center": "CC 7"})
    with django_assert_max_num_queries(12):
        text = shown(client.get(url(world, f"{world.platform.pk}/")))
    assert "/ engineering / platform" in text
    assert "CC 7" in text
    assert "Sam <span" in text
    assert ">gateway" in text
    assert ">Assistant</a>" in text


@pytest.mark.parametrize("group", ["engineering", "sales", "elsewhere"])
def test_above_beside_and_elsewhere_are_absent(world: World, group: str) -> None:
    client = signed_in(world, "sam")
    pages = ("", "edit/", "move/", "archive/")
    assert {client.get(url(world, f"{world.group(group).pk}/{page}")).status_code for page in pages} == {404}


@pytest.mark.parametrize("page", ["edit/", "move/", "archive/"])
def test_ones_own_node_belongs_to_the_admin_above(world: World, page: str) -> None:
    response = signed_in(world, "sam").get(url(world, f"{world.platform.pk}/{page}"))
    assert response.status_code == 403
    assert "Manage groups" in shown(response)


# --- forms ----------------------------------------------------------------------------------------


def test_a_place_that_takes_no_group_is_said_at_once_and_the_one_above_it_offered(world: World) -> None:
    client = signed_in(world, "alice")
    page = client.get(url(world, f"new/?parent={world.core.pk}"))
    assert page.status_code == 200
    assert "The tree has 4 levels below the organisation; core is already on the last one." in shown(page)
    assert f'value="{world.gateway.pk}" selected' in shown(page)
    archive_group(world.sales, by=world.actor("alice"))
    page = client.get(url(world, f"new/?parent={world.field.pk}"))
    assert "field lies in sales, which is archived." in shown(page)
    assert "is archived" not in shown(client.get(url(world, "new/")))


@pytest.mark.parametrize("parent", ["0", "999999999", "x", "-1", "9" * 30, "elsewhere", "sales"])
def test_a_place_that_is_not_seen_is_a_404(world: World, parent: str) -> None:
    number = world.other.root.pk if parent == "elsewhere" else world.sales.pk if parent == "sales" else parent
    assert signed_in(world, "lena").get(url(world, f"new/?parent={number}")).status_code == 404


def test_a_place_that_is_seen_and_not_managed_is_a_403(world: World) -> None:
    assert signed_in(world, "sam").get(url(world, f"new/?parent={world.platform.pk}")).status_code == 200
    role = create_role(world.engineering, name="Sees", permissions=[Permission.VIEW_USAGE], by=world.actor("alice"))
    grant_role(world.sam, role=role, group=world.engineering, by=world.actor("alice"))
    refused = signed_in(world, "sam").get(url(world, f"new/?parent={world.engineering.pk}"))
    assert refused.status_code == 403
    assert "Manage groups" in shown(refused)


def test_a_group_is_made_from_the_dialog(world: World) -> None:
    client = signed_in(world, "sam")
    assert f'value="{world.gateway.pk}" selected' in shown(
        client.get(url(world, f"new/?parent={world.gateway.pk}"), headers=HTMX)
    )
    sent = {"name": "Edge", "parent": world.gateway.pk, "kind": "team", "cost_center": "12", "owner": world.mia.email.upper()}
    response = client.post(url(world, "new/"), sent, headers=HTMX)
    assert response.headers["hx-redirect"] == url(world)
    made = Group.objects.get(name="Edge", organization=world.acme)
    assert (made.parent, made.kind, made.cost_center, made.owner) == (world.gateway, "team", "12", world.mia)


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        ({"name": ""}, "This field is required"),
        ({"name": "x" * 121}, "at most 120 characters"),
        ({"name": "a", "kind": "x" * 41}, "at most 40 characters"),
        ({"name": "a", "owner": "nobody@example.test"}, "No active member that you see"),
        ({"name": "a", "owner": "noah"}, "No active member that you see"),
        ({"name": "a", "parent": "core"}, "4 levels below the organisation; core is already on the last one"),
        ({"name": "a", "parent": "sales"}, "Select a valid choice"),
        ({"name": "a", "parent": "elsewhere"}, "Select a valid choice"),
        ({"name": "a", "parent": "x"}, "Select a valid choice"),
    ],
)
def test_what_is_wrong_stands_at_its_field_and_what_was_typed_stays(world: World, sent: dict[str, str], words: str) -> None:
    named = {"core": world.core.pk, "sales": world.sales.pk, "elsewhere": world.other.root.pk}
    before = Group.objects.count()
    parent = named.get(sent.get("parent", ""), sent.get("parent", world.gateway.pk))
    owner = world.noah.email if sent.get("owner") == "noah" else sent.get("owner", "")
    typed = {"cost_center": "CC <9>", **sent, "parent": parent, "owner": owner}
    response = signed_in(world, "sam").post(url(world, "new/"), typed)
    assert response.status_code == 422
    assert words in shown(response)
    assert 'value="CC &lt;9&gt;"' in shown(response)
    assert Group.objects.count() == before


def test_editing_keeps_an_owner_out_of_sight(world: World) -> None:
    """Lena set alice, whom Sam cannot see: he may save the rest."""
    Group.objects.filter(pk=world.gateway.pk).update(owner=world.alice)
    sent = {"name": "gate", "kind": "", "cost_center": "", "owner": world.alice.email}
    assert signed_in(world, "sam").post(url(world, f"{world.gateway.pk}/edit/"), sent).status_code == 302
    changed = world.group("gateway")
    assert (changed.name, changed.owner) == ("gate", world.alice)


def test_editing_keeps_an_owner_who_has_left_and_takes_no_such_one_anew(world: World) -> None:
    client, alice = signed_in(world, "alice"), world.actor("alice")
    for group in (world.gateway, world.core):
        change_group(group, owner=world.noah if group == world.gateway else None, by=alice)
    change_application(world.assistant, owner=world.noah, by=alice)
    remove_member(Membership.objects.get(user=world.noah, organization=world.acme), by=alice)
    sent = {"name": "gate", "kind": "", "cost_center": "", "owner": world.noah.email}
    assert client.post(url(world, f"{world.gateway.pk}/edit/"), sent).status_code == 302
    assert (world.group("gateway").name, world.group("gateway").owner) == ("gate", world.noah)
    page = url(world, f"{world.assistant.pk}/edit/", area="applications")
    form = client.get(page).context["form"]
    typed = {name: form[name].value() or "" for name in form.fields} | {"name": "Helper"}
    assert client.post(page, typed).status_code == 302
    assert Application.objects.get(pk=world.assistant.pk).name == "Helper"
    with pytest.raises(Refused, match="is not an active member"):
        change_group(world.core, owner=world.noah, by=alice)


def test_the_root_has_every_field_but_a_name(world: World) -> None:
    client, path = signed_in(world, "alice"), url(world, f"{world.root.pk}/edit/")
    assert 'name="name"' not in shown(client.get(path))
    assert client.post(path, {"cost_center": "HQ", "name": "Mine"}).status_code == 302
    assert (world.group("root").cost_center, world.group("root").name) == ("HQ", world.acme.name)


# --- move -----------------------------------------------------------------------------------------


def policy(
    world: World, name: str, where: str, *limits: LimitSpec, reach: str = "self", rules: dict[str, list[str]] | None = None
) -> Policy:
    wanted = limits or ([] if rules else [LimitSpec("budget", "month", 5 * DOLLAR)])
    made = create_policy(world.acme, name=name, limits=wanted, rules=rules, by=world.actor("alice"))
    bind(made, subject=getattr(world, where), reach=reach, by=world.actor("alice"))
    return made


def said(response: Any) -> dict[str, list[str]]:
    return dict(response.context["changes"])


def test_a_move_says_which_limits_apply_from_now_on_and_which_no_longer(world: World) -> None:
    policy(world, "Company", "root")
    policy(world, "Engineers", "engineering", LimitSpec("rpm", "minute", 60), rules={"models": ["a*", "b", "c", "d", "e"]})
    sellers = policy(world, "Sellers", "sales")
    policy(world, "Each seller", "sales", LimitSpec("budget", "day", DOLLAR), reach="members")
    policy(world, "Each engineer", "engineering", LimitSpec("budget", "day", 2 * DOLLAR), reach="members")
    policy(world, "Big", "core", LimitSpec("budget", "month", 9 * DOLLAR))
    policy(world, "Who", "sales", rules={"members": [world.mia.email, world.sam.email]})
    until = timezone.now() + timedelta(days=1)
    add_override(sellers.limits.get(), subject=world.sales, amount=DOLLAR, until=until, by=world.actor("alice"))
    insert_calls(
        call_row(world.key, group1_id=world.sales.pk, group2_id=world.field.pk, group3_id=None, charged_nano_usd=2 * DOLLAR)
    )
    response = signed_in(world, "alice").get(url(world, f"{world.gateway.pk}/move/?to={world.sales.pk}"), headers=HTMX)
    changes = said(response)
    assert changes["ended"] == [
        "Lena, L1 Admin of engineering, has no more rights here.",
        "Sam, Sub-admin of platform, has no more rights here.",
        "“Engineers” on engineering: 60 requests/min, allowed models (a*, b, c and 2 more)",
        "“Each engineer” on engineering: $2.00 per day, for each member by default",
    ]
    assert changes["now"] == [
        "“Sellers” on sales: $5.00 per month ($2.00 of $6.00 spent)",
        "“Who” on sales: allowed members (2)",
        "“Each seller” on sales: $1.00 per day, for each member by default",
    ]
    assert any("“Sellers”" in note for note in changes["note"])
    assert "What was spent so far stays" in changes["note"][-1]
    assert world.group("gateway").parent == world.platform


@pytest.mark.parametrize("sees_usage", [True, False])
def test_what_a_place_has_spent_is_told_to_who_may_see_its_usage(world: World, sees_usage: bool) -> None:
    alice, named = world.actor("alice"), [Permission.MANAGE_GROUPS, *([Permission.VIEW_USAGE] if sees_usage else [])]
    grant_role(world.noah, role=create_role(world.root, name="Mover", permissions=named, by=alice), group=world.root, by=alice)
    policy(world, "Sellers", "sales")
    insert_calls(
        call_row(world.key, group1_id=world.sales.pk, group2_id=world.field.pk, group3_id=None, charged_nano_usd=2 * DOLLAR)
    )
    changes = said(signed_in(world, "noah").get(url(world, f"{world.gateway.pk}/move/?to={world.sales.pk}")))
    figures = " ($2.00 of $5.00 spent)" if sees_usage else ""
    assert changes["now"] == [f"“Sellers” on sales: $5.00 per month{figures}"]


def test_a_move_away_from_a_policy_that_is_not_ones_own_to_take_off_is_refused_on_the_page(world: World) -> None:
    alice = world.actor("alice")
    mover = create_role(world.root, name="Mover", permissions=[Permission.MANAGE_GROUPS], by=alice)
    grant_role(world.noah, role=mover, group=world.root, by=alice)
    policy(world, "Engineers", "engineering")
    path, place = url(world, f"{world.gateway.pk}/move/"), str(world.sales.pk)
    response = signed_in(world, "noah").post(path, {"to": place, "seen": place})
    assert response.status_code == 422
    assert "would no longer be governed by “Engineers” of engineering" in shown(response)
    assert world.group("gateway").parent == world.platform


def add_provider_key(world: World, where: str, *, kind: str, name: str) -> None:
    place = Place(kind, None)
    provider_keys.add(getattr(world, where), place=place, name=name, secret="sk-0123456789", by=world.actor("alice"))


def test_a_move_says_which_names_and_provider_keys_change_and_asks_few_questions(
    world: World, django_assert_max_num_queries: Any
) -> None:
    """All that a group gives at once, on the page as a whole."""
    alice, auto = world.actor("alice"), PresetWords("auto")
    for where in ("engineering", "sales", "root"):
        create_alias(getattr(world, where), name="Quick" if where == "sales" else "quick", model="auto", by=alice)
    create_alias(world.root, name="everywhere", model="auto", by=alice)
    create_alias(world.gateway, name="own", model="auto", by=alice)
    create_alias(world.sales, name="own", model="auto", by=alice)
    create_preset(world.platform, name="polite", words=auto, by=alice)
    create_preset(world.sales, name="pushy", words=auto, by=alice)
    add_provider_key(world, "engineering", kind="mistral", name="Ours")
    add_provider_key(world, "sales", kind="openai", name="Theirs")
    policy(world, "Sellers", "sales", LimitSpec("budget", "month", DOLLAR), rules={"blocked_models": ["x*"]})
    policy(world, "Narrow", "core", rules={"models": ["gpt-*"]})
    world.acme.approval_since = timezone.now()
    world.acme.save(update_fields=["approval_since"])
    client = signed_in(world, "alice")
    client.get(url(world))
    with django_assert_max_num_queries(13):
        changes = said(client.get(url(world, f"{world.gateway.pk}/move/?to={world.sales.pk}")))
    given = ("The alias", "The preset", "Provider key")
    assert [text for text in changes["ended"] if text.startswith(given)] == [
        "The alias “quick” of engineering: auto",
        "The preset “preset:polite” of platform: auto. Calls that name it are refused.",
        "Provider key “Ours” of engineering. Where no other fits, calls to any mistral are charged to the credit pool.",
    ]
    assert [text for text in changes["now"] if text.startswith(given)] == [
        "The alias “Quick” of sales: auto",
        "The preset “preset:pushy” of sales: auto",
        "Provider key “Theirs” of sales: calls to any openai are made with it, and not charged to the credit pool.",
    ]
    assert "Approvals of new models that were given for engineering and platform no longer count here." in changes["note"]


def test_it_moves_once_what_it_changes_was_seen(world: World) -> None:
    """Without JavaScript the first answer is that page; with it the choice fetches it. Another place asks again."""
    client, path, to = signed_in(world, "alice"), url(world, f"{world.gateway.pk}/move/"), str(world.sales.pk)
    first = client.post(path, {"to": to})
    assert first.status_code == 200
    assert f'name="seen" value="{to}"' in shown(first)
    assert client.post(path, {"to": to, "seen": str(world.root.pk)}).status_code == 200
    assert world.group("gateway").parent == world.platform
    assert client.post(path, {"to": to, "seen": to}).headers["location"] == url(world)
    assert world.group("gateway").parent == world.sales
    assert AuditEvent.objects.filter(organization=world.acme, action="group.moved").count() == 1


@pytest.mark.parametrize(
    ("group", "to", "words"),
    [
        ("platform", "field", "would reach level 5"),
        ("gateway", "core", "into itself or below itself"),
        ("gateway", "elsewhere", "Choose one of the groups"),
        ("gateway", "nonsense", "Choose one of the groups"),
    ],
)
def test_a_move_that_cannot_be_is_refused_with_its_reason(world: World, group: str, to: str, words: str) -> None:
    place = to if to == "nonsense" else str(world.group(to).pk)
    path = url(world, f"{getattr(world, group).pk}/move/")
    client = signed_in(world, "alice")
    assert words in shown(client.get(f"{path}?to={place}", headers={**HTMX, "hx-target": "div#move-changes"}))
    response = client.post(path, {"to": place, "seen": place}, headers=HTMX)
    assert response.status_code == 422
    assert words in shown(response)


def test_only_places_of_ones_own_are_offered(world: World) -> None:
    places = signed_in(world, "sam").get(url(world, f"{world.core.pk}/move/")).context["places"]
    assert [group.name for group, _ in places] == ["platform", "gateway"]


# --- archive --------------------------------------------------------------------------------------


def test_archiving_names_what_stops_and_asks_for_the_name(world: World) -> None:
    client, path = signed_in(world, "lena"), url(world, f"{world.platform.pk}/archive/")
    assert "1 API key in it and below stop" in shown(client.get(path, headers=HTMX))
    assert client.post(path, {"confirm": "Platform"}, headers=HTMX).status_code == 422
    assert client.post(path, {"confirm": "platform"}, headers=HTMX).headers["hx-redirect"] == url(world)
    assert world.group("platform").archived_at
    assert "Restore" in shown(client.get(url(world) + "?archived=1"))
    client.post(url(world, f"{world.platform.pk}/restore/"))
    assert world.group("platform").archived_at is None


def test_what_lies_below_an_archived_group_waits_for_it(world: World) -> None:
    for group in (world.core, world.gateway):
        archive_group(group, by=world.actor("alice"))
    client = signed_in(world, "lena")
    page = client.post(url(world, f"{world.core.pk}/restore/"), follow=True)
    assert "gateway is archived" in shown(page)
    assert world.group("core").archived_at
