"""Members, roles and invitations through HTTP: who sees whom, filters, actions, and what is shown when something is refused."""

import csv
import re
from html import unescape
from typing import Any

import pytest
from django.contrib.messages import get_messages
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from gateway_project.mail import CONSOLE
from orgs import people
from orgs.models import AuditEvent, Group, Invitation, MemberImport, Membership, Role, RoleGrant
from orgs.permissions import Permission, RoleName
from orgs.services.invitations import accept, find, invite, link_token
from orgs.services.keys import create_api_key
from orgs.services.members import add_member, grant_role, suspend_member
from orgs.services.organizations import create_personal_account
from orgs.services.roles import create_role
from tests.actors import World, make_user, signed_in


def url(world: World, path: str) -> str:
    return f"/o/{world.acme.slug}/{path}"


def listed(client: Client, world: World, query: str = "") -> list[str]:
    return [person.user.name for person in client.get(url(world, f"members/{query}")).context["people"]]


def told(response: Any) -> list[str]:
    return [str(message) for message in get_messages(response.wsgi_request)]


def mias(world: World) -> Membership:
    return Membership.objects.get(user=world.mia, group=world.gateway)


# --- members --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "seen"),
    [("alice", ["Alice", "Lena", "Mia", "Noah", "Sam"]), ("lena", ["Lena", "Mia", "Sam"]), ("sam", ["Mia", "Sam"])],
)
def test_an_admin_sees_the_people_of_its_part_of_the_tree(world: World, name: str, seen: list[str]) -> None:
    assert listed(signed_in(world, name), world) == seen


def test_filters_narrow_the_list_and_nonsense_does_not(world: World) -> None:
    alice = world.actor("alice")
    role = create_role(world.root, name="Lead", permissions=[Permission.VIEW_USAGE], by=alice)
    grant_role(world.noah, role=role, group=world.field, by=alice)
    suspend_member(mias(world), by=alice)
    client = signed_in(world, "alice")
    assert listed(client, world, "?q=LEN") == ["Lena"]
    assert listed(client, world, f"?q={world.sam.email}") == ["Sam"]
    assert listed(client, world, f"?group={world.platform.pk}") == ["Mia", "Sam"]
    assert listed(client, world, "?role=admin") == ["Alice", "Lena", "Sam"]
    assert listed(client, world, f"?role=role-{role.pk}") == ["Noah"]
    assert listed(client, world, "?role=member") == ["Mia"]
    assert listed(client, world, "?status=suspended") == ["Mia"]
    assert listed(client, world, f"?status=active&group={world.sales.pk}") == ["Noah"]
    assert listed(client, world, "?q=nobody") == []
    for query in (
        "?group=x",
        f"?group={world.other.root.pk}",
        "?role=king",
        "?status=x",
        "?after=x",
        "?q=%00",
        f"?after={'9' * 30}",
    ):
        assert len(listed(client, world, query)) == 5, query


def test_pages_follow_one_another_forwards_and_back(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(people, "PAGE_SIZE", 2)
    client = signed_in(world, "alice")
    seen, address = [], ""
    while True:
        context = client.get(url(world, f"members/{address}")).context
        seen += [person.user.name for person in context["people"]]
        if not context["older_url"]:
            break
        address = context["older_url"]
    assert seen == ["Alice", "Lena", "Mia", "Noah", "Sam"]
    assert listed(client, world, context["newer_url"]) == ["Mia", "Noah"]


def test_the_lists_cost_a_dozen_queries_at_most(world: World, django_assert_max_num_queries: Any) -> None:
    alice = world.actor("alice")
    for number in range(8):
        user = make_user(f"p{number}@example.test")
        add_member(user, group=world.gateway, by=alice)
        grant_role(user, role=RoleName.FINANCE, group=world.gateway, by=alice)
        invite(world.gateway, email=f"q{number}@example.test", role=RoleName.ADMIN, by=alice)
        create_role(world.root, name=f"role {number}", permissions=[Permission.VIEW_USAGE], by=alice)
    for name, page in (("sam", "members/"), ("alice", f"members/{world.mia.pk}/"), ("lena", "roles/"), ("lena", "invitations/")):
        client = signed_in(world, name)
        client.get(url(world, page))
        with django_assert_max_num_queries(12):
            assert client.get(url(world, page)).status_code == 200


def test_a_person_shows_what_lies_in_sight_only(world: World) -> None:
    alice = world.actor("alice")
    add_member(world.mia, group=world.sales, by=alice)
    grant_role(world.mia, role=RoleName.FINANCE, group=world.root, by=alice)
    page = signed_in(world, "sam").get(url(world, f"members/{world.mia.pk}/"))
    assert [row.path for row in page.context["memberships"]] == ["engineering / platform / gateway"]
    assert page.context["grants"] == []
    assert signed_in(world, "sam").get(url(world, f"members/{world.noah.pk}/")).status_code == 404
    assert signed_in(world, "alice").get(url(world, f"members/{world.charlie.pk}/")).status_code == 404


def test_history_tells_what_happened_where_one_may_read_it(world: World) -> None:
    alice = world.actor("alice")
    add_member(world.mia, group=world.sales, by=alice)
    grant_role(world.mia, role=RoleName.FINANCE, group=world.gateway, by=world.actor("sam"))
    words = signed_in(world, "sam").get(url(world, f"members/{world.mia.pk}/history/")).content.decode()
    assert "Mia: Finance of gateway" in words
    assert "sales" not in words


def test_history_says_of_what_one_did_oneself_not_by_whom(world: World) -> None:
    invitation = invite(world.gateway, role=RoleName.FINANCE, by=world.actor("alice"))
    found = find(link_token(invitation))
    assert found
    accept(found, user=world.noah)
    words = signed_in(world, "alice").get(url(world, f"members/{world.noah.pk}/history/")).content.decode()
    text = [
        " ".join(line.split()) for line in re.findall(r"<li><div>(.*?)</div>", re.sub(r"</?span[^>]*>", "", words), re.DOTALL)
    ]
    assert text == ["Noah: Finance of gateway was granted a role by the invitation", "Noah in gateway joined by invitation"]
    suspend_member(Membership.objects.get(user=world.noah, group=world.gateway), by=world.actor("alice"))
    words = signed_in(world, "alice").get(url(world, f"members/{world.noah.pk}/history/")).content.decode()
    assert "was suspended by Alice" in words


def test_suspending_and_resuming_from_the_page(world: World) -> None:
    client = signed_in(world, "sam")
    member = mias(world)
    for step, suspended in (("suspend", True), ("suspend", True), ("resume", False)):
        response = client.post(url(world, f"members/memberships/{member.pk}/{step}/"))
        assert response.headers["location"] == url(world, f"members/{world.mia.pk}/")
        assert bool(mias(world).suspended_at) is suspended


def test_what_a_suspension_stops_is_named_before_it_happens(world: World) -> None:
    alice = world.actor("alice")
    add_member(world.mia, group=world.sales, by=alice)
    beside = create_api_key(world.sales, name="Beside", member=world.mia, by=alice)[0]
    grant_role(world.mia, role=RoleName.FINANCE, group=world.core, by=alice)
    client, path = signed_in(world, "alice"), url(world, f"members/memberships/{mias(world).pk}/suspend/")
    asked = unescape(client.get(path).content.decode())
    assert "Suspend Mia at gateway?" in asked
    assert "open streams end: Mia's key." in asked
    assert "Roles count no longer: Finance of core." in asked
    assert not mias(world).suspended_at
    suspend_member(Membership.objects.get(user=world.mia, group=world.sales), by=alice)
    asked = unescape(client.get(path).content.decode())
    assert f"open streams end: Mia's key, {beside.name}." in asked, "with the last membership all stop"
    done = client.post(path, headers={"hx-request": "true"})
    assert done.headers["hx-redirect"] == url(world, f"members/{world.mia.pk}/")
    assert mias(world).suspended_at


def test_what_ends_with_a_role_is_named_before_it_happens(world: World) -> None:
    alice = world.actor("alice")
    grant = grant_role(world.mia, role=RoleName.ADMIN, group=world.sales, by=alice)
    client, path = signed_in(world, "alice"), url(world, f"members/grants/{grant.pk}/end/")
    assert "No API key stops." in client.get(path).content.decode()
    create_api_key(world.sales, name="There", member=world.mia, by=world.actor("mia"))
    asked = client.get(path).content.decode()
    assert f"as {grant.label} of sales?" in asked
    assert "What only this role let be there is disabled: the API key “There” in sales." in asked
    assert RoleGrant.objects.filter(pk=grant.pk).exists()
    assert told(client.post(path))[-1].endswith("disabled: the API key “There” in sales.")
    assert not RoleGrant.objects.filter(pk=grant.pk).exists()


def test_the_reason_is_shown_where_the_last_super_admin_would_go(world: World) -> None:
    client = signed_in(world, "alice")
    member = Membership.objects.get(user=world.alice)
    grant = RoleGrant.objects.get(user=world.alice)
    words = "at least one Super Admin"
    assert words in told(client.post(url(world, f"members/memberships/{member.pk}/suspend/")))[0]
    assert words in told(client.post(url(world, f"members/grants/{grant.pk}/end/")))[-1]
    for path, typed in ((f"members/memberships/{member.pk}/remove/", world.alice.email), ("members/leave/", world.acme.name)):
        response = client.post(url(world, path), {"confirm": typed})
        assert response.status_code == 422
        assert words in response.content.decode()
    assert RoleGrant.objects.filter(pk=grant.pk).exists()


def test_removing_names_what_is_lost_and_wants_the_address(world: World) -> None:
    client, path = signed_in(world, "sam"), url(world, f"members/memberships/{mias(world).pk}/remove/")
    assert "Mia&#x27;s key" in client.get(path).content.decode()
    assert client.post(path, {"confirm": "someone"}).status_code == 422
    assert client.post(path, {"confirm": world.mia.email.upper()}).status_code == 302
    assert not Membership.objects.filter(user=world.mia, organization=world.acme).exists()
    assert client.post(path, {"confirm": world.mia.email}).status_code == 404


def test_moving_keeps_what_was_typed_and_says_what_is_wrong(world: World) -> None:
    client, path = signed_in(world, "sam"), url(world, f"members/memberships/{mias(world).pk}/move/")
    for group in ("", "x", world.sales.pk, world.other.root.pk, world.gateway.pk):
        assert client.post(path, {"group": group}).status_code == 422
    assert client.post(path, {"group": world.core.pk}, headers={"hx-request": "true"}).headers["hx-redirect"]
    assert Membership.objects.get(user=world.mia, organization=world.acme).group == world.group("core")


def test_one_leaves_by_oneself(world: World) -> None:
    client = signed_in(world, "mia")
    assert client.post(url(world, "members/leave/"), {"confirm": "no"}).status_code == 422
    assert client.post(url(world, "members/leave/"), {"confirm": world.acme.name}).headers["location"] == "/"
    assert client.get(url(world, "members/leave/")).status_code == 404


def test_granting_offers_what_one_may_give(world: World) -> None:
    client, path = signed_in(world, "sam"), url(world, f"members/{world.mia.pk}/grant/")
    strong = create_role(world.root, name="Strong", permissions=[Permission.TOP_UP], by=world.actor("alice"))
    form = client.get(path).context["form"]
    assert set(form.roles) == {"admin", "finance", "auditor"}
    assert [group.name for group in form.fields["group"].queryset] == ["gateway", "core"]
    for typed in ({"role": f"role-{strong.pk}", "group": world.gateway.pk}, {"role": "admin", "group": world.platform.pk}, {}):
        assert client.post(path, typed).status_code == 422
    assert client.post(path, {"role": "finance", "group": world.gateway.pk}).status_code == 302
    again = client.post(path, {"role": "finance", "group": world.gateway.pk})
    assert "already has this role" in again.content.decode()


def test_granting_begins_with_no_role_and_the_persons_own_group(world: World) -> None:
    client, path = signed_in(world, "alice"), url(world, f"members/{world.mia.pk}/grant/")
    form = client.get(path).context["form"]
    assert form["role"].subwidgets[0].data["attrs"].get("selected")
    assert (form["role"].subwidgets[0].choice_label, form["group"].initial) == ("Choose a role", world.gateway.pk)
    assert client.post(path, {"role": "", "group": world.gateway.pk}).status_code == 422
    add_member(world.mia, group=world.sales, by=world.actor("alice"))
    page = client.get(path)
    assert page.context["form"]["group"].initial is None, "of two groups neither is meant"
    assert "Choose a group" in page.content.decode()


def test_a_super_admin_is_made_by_whoever_said_so_twice(world: World) -> None:
    client, path = signed_in(world, "alice"), url(world, f"members/{world.mia.pk}/grant/")
    typed = {"role": "admin", "group": world.root.pk}
    assert "super_admin" not in client.get(path).content.decode()
    for unticked in ({}, {"super_admin": ""}):
        asked = client.post(path, typed | unticked)
        assert (asked.status_code, "I want Mia to be Super Admin" in asked.content.decode()) == (422, True)
        assert "Tick this, or choose another role or group." in asked.content.decode()
    assert not RoleGrant.objects.filter(user=world.mia, organization=world.acme).exists()
    assert client.post(path, {"role": "finance", "group": world.root.pk}).status_code == 302, "any other role needs no tick"
    assert client.post(path, typed | {"super_admin": "on"}).status_code == 302
    assert RoleGrant.objects.filter(user=world.mia, group=world.root, role=RoleName.ADMIN).exists()


@pytest.mark.parametrize("way", ["link", "mail"])
def test_an_invitation_to_be_super_admin_is_asked_about_too(world: World, way: str) -> None:
    client, path = signed_in(world, "alice"), url(world, f"invitations/{way}/")
    typed = {"role": "admin", "group": world.root.pk, "days": 7, "max_uses": 1, "emails": "ada@example.test"}
    asked = client.post(path, typed)
    assert (asked.status_code, "I want whom I invite to be Super Admin" in asked.content.decode()) == (422, True)
    assert not Invitation.objects.filter(organization=world.acme).exists()
    client.post(path, typed | {"super_admin": "on"})
    assert Invitation.objects.get(organization=world.acme).role == RoleName.ADMIN


def test_several_at_once_are_shown_then_changed_each_by_itself(world: World) -> None:
    client, path = signed_in(world, "sam"), url(world, "members/bulk/")
    chosen = [world.mia.pk, world.sam.pk, world.noah.pk, world.charlie.pk]
    shown = client.post(path, {"action": "suspend", "person": chosen})
    assert [person.user.name for person in shown.context["people"]] == ["Mia", "Sam"]
    assert not mias(world).suspended_at
    done = client.post(path, {"action": "suspend", "person": chosen, "confirmed": "on"})
    assert told(done) == ["Mia suspended.", "Sam: it needs “grant roles” at platform."]
    assert mias(world).suspended_at
    client.post(path, {"action": "resume", "person": chosen, "confirmed": "on"})
    missing = client.post(path, {"action": "move", "person": [world.mia.pk], "confirmed": "on"})
    assert missing.status_code == 422
    client.post(path, {"action": "move", "person": [world.mia.pk], "confirmed": "on", "group": world.core.pk})
    client.post(path, {"action": "remove", "person": [world.mia.pk], "confirmed": "on"})
    assert not Membership.objects.filter(user=world.mia, organization=world.acme).exists()
    for nonsense in ({"action": "dance", "person": [world.sam.pk]}, {"action": "remove"}, {"action": "remove", "person": "x"}):
        assert told(client.post(path, nonsense))[-1] == "Choose at least one member and what to do."


def test_of_one_person_several_memberships_are_changed_all_or_none(world: World) -> None:
    alice = world.actor("alice")
    add_member(world.mia, group=world.platform, by=alice)
    grant_role(world.mia, role=RoleName.AUDITOR, group=world.platform, by=alice)
    events = AuditEvent.objects.filter(organization=world.acme, action="member.suspended")
    sent = {"action": "suspend", "person": [world.mia.pk], "confirmed": "on"}
    done = signed_in(world, "sam").post(url(world, "members/bulk/"), sent)
    assert told(done) == ["Mia: it needs “grant roles” at platform."]
    assert not Membership.objects.filter(user=world.mia, suspended_at__isnull=False).exists()
    assert not events.exists()
    signed_in(world, "alice").post(url(world, "members/bulk/"), sent)
    assert events.count() == 2


def test_the_dialog_of_a_move_names_no_key_that_a_role_lets_stay(world: World) -> None:
    add_member(world.lena, group=world.platform, by=world.actor("alice"))
    for group in (world.platform, world.core):
        create_api_key(group, name=f"lena of {group}", member=world.lena, by=world.actor("lena"))
    found = Membership.objects.get(user=world.lena, group=world.platform)
    dialog = signed_in(world, "alice").get(url(world, f"members/memberships/{found.pk}/move/")).content.decode()
    assert "next call on: lena of platform." in dialog


@pytest.mark.parametrize("what", ["suspend", "move", "remove"])
def test_whoever_changes_a_membership_of_its_own_comes_to_a_page_it_may_still_see(world: World, what: str) -> None:
    own = make_user(f"second.{world.acme.slug}@example.test", name="Second")
    membership = add_member(own, group=world.engineering, by=world.actor("alice"))
    grant_role(own, role=RoleName.ADMIN, group=world.root, by=world.actor("alice"))
    create_personal_account(own)
    client = Client()
    client.force_login(own)
    sent = {"confirm": own.email, "group": world.core.pk}
    done = client.post(url(world, f"members/memberships/{membership.pk}/{what}/"), sent, follow=True)
    assert done.status_code == 200
    assert done.redirect_chain[0] == ("/", 302)
    assert "Second" in done.content.decode()


# --- roles ----------------------------------------------------------------------------------------


def test_a_role_is_made_changed_copied_and_deleted(world: World) -> None:
    client = signed_in(world, "lena")
    typed = {"name": "Lead", "description": "Leads", "permissions": ["view_usage", "manage_keys"], "group": world.platform.pk}
    assert client.post(url(world, "roles/new/"), typed).status_code == 302
    role = Role.objects.get(organization=world.acme, name="Lead")
    again = client.post(url(world, "roles/new/"), typed)
    assert (again.status_code, "There is a role “Lead” already" in again.content.decode()) == (422, True)
    client.post(url(world, f"roles/{role.pk}/edit/"), {"name": "Lead", "permissions": ["view_audit"]})
    assert Role.objects.get(pk=role.pk).permissions == ["view_audit"]
    assert client.post(url(world, f"roles/{role.pk}/copy/")).headers["location"].endswith("/edit/")
    assert client.post(url(world, f"roles/{role.pk}/delete/"), {"confirm": "Lead"}).status_code == 302
    assert list(Role.objects.filter(organization=world.acme).values_list("name", flat=True)) == ["Lead copy"]


@pytest.mark.parametrize(
    "wrong", [{"permissions": []}, {"permissions": ["fly"]}, {"name": ""}, {"name": "x" * 61}, {"group": "0"}]
)
def test_what_is_wrong_with_a_role_is_said_and_nothing_made(world: World, wrong: dict[str, Any]) -> None:
    typed = {"name": "Lead", "permissions": ["view_usage"], "group": world.platform.pk, **wrong}
    assert signed_in(world, "lena").post(url(world, "roles/new/"), typed).status_code == 422
    assert not Role.objects.filter(organization=world.acme).exists()


@pytest.mark.parametrize(("chosen", "error"), [([], "Choose at least one permission."), (["fly"], "Select a valid choice. fly")])
def test_what_is_wrong_with_a_roles_permissions_stands_above_them(world: World, chosen: list[str], error: str) -> None:
    typed = {"name": "Lead", "description": "", "permissions": chosen, "group": world.platform.pk}
    response = signed_in(world, "alice").post(url(world, "roles/new/"), typed)
    assert response.status_code == 422
    page = response.content.decode()
    assert f'id="id_permissions_error"><div>{error}' in page
    assert 'aria-describedby="id_permissions_error"' in page
    assert page.count('aria-invalid="true"') == page.count('name="permissions"') > 0
    assert page.count(error) == 1


def test_a_role_of_more_than_one_may_do_is_refused_beside_the_permissions(world: World) -> None:
    typed = {"name": "Lead", "permissions": ["top_up"], "group": world.gateway.pk}
    response = signed_in(world, "sam").post(url(world, "roles/new/"), typed)
    assert response.status_code == 422
    assert "You may not do “top up” at gateway yourself." in response.content.decode()


def test_the_matrix_shows_every_role_in_sight(world: World) -> None:
    create_role(world.root, name="Lead", permissions=[Permission.VIEW_USAGE], by=world.actor("alice"))
    create_role(world.sales, name="Beside", permissions=[Permission.VIEW_USAGE], by=world.actor("alice"))
    context = signed_in(world, "sam").get(url(world, "roles/")).context
    assert [row.name for row in context["rows"]] == ["Admin", "Finance", "Auditor", "Lead"]
    [usage] = [held for name, lines in context["matrix"] for words, _, held in lines if name == "Usage"]
    assert usage == [True, True, True, True]


# --- invitations ----------------------------------------------------------------------------------


def test_a_link_is_made_shown_and_copyable_while_it_is_open(world: World) -> None:
    client = signed_in(world, "sam")
    typed = {"group": world.gateway.pk, "role": "", "days": 7, "max_uses": 5, "email": ""}
    shown = client.post(url(world, "invitations/link/"), typed)
    [invitation] = Invitation.objects.filter(organization=world.acme)
    link = shown.context["url"]
    assert "/invite/" in link
    assert client.get(url(world, f"invitations/{invitation.pk}/link/")).context["url"] == link
    assert AuditEvent.objects.filter(organization=world.acme).latest("pk").action == "invitation.link_read"
    client.post(url(world, f"invitations/{invitation.pk}/revoke/"))
    assert client.get(url(world, f"invitations/{invitation.pk}/link/")).context["url"] == ""
    assert not client.get(url(world, "invitations/")).context["rows"]
    [row] = client.get(url(world, "invitations/?status=closed")).context["rows"]
    assert (row.invitation.status, row.uses) == ("revoked", "0 of 5")


def test_who_looks_as_somebody_else_reads_no_link(world: World) -> None:
    invitation = invite(world.gateway, by=world.actor("sam"))
    client, path = signed_in(world, "lena"), url(world, f"invitations/{invitation.pk}/link/")
    client.post(url(world, f"view-as/{Membership.objects.get(user=world.sam).pk}/"))
    refused = client.get(path)
    assert (refused.status_code, "looking at the console as somebody else" in refused.content.decode()) == (403, True)
    client.post("/view-as/end/")
    assert client.get(path).context["url"]


def test_the_link_to_a_role_one_may_not_give_is_not_shown(world: World) -> None:
    invitation = invite(world.platform, role=RoleName.ADMIN, by=world.actor("lena"))
    client = signed_in(world, "sam")
    [row] = client.get(url(world, "invitations/")).context["rows"]
    assert not row.may_manage
    for path, method in (("link", client.get), ("revoke", client.post), ("send", client.post)):
        assert method(url(world, f"invitations/{invitation.pk}/{path}/")).status_code == 403


def test_many_addresses_are_invited_and_the_others_named(world: World) -> None:
    client, path = signed_in(world, "sam"), url(world, "invitations/mail/")
    typed = {"group": world.gateway.pk, "role": "finance", "days": 30}
    pasted = f"Ada L <ada@example.test>, alan@example.test; ADA@example.test\n{world.mia.email} grace@example.test"
    response = client.post(path, {**typed, "emails": pasted})
    assert told(response) == [
        "Invited 3 people. The mails are on their way.",
        f"{world.mia.email} is a member already in gateway.",
    ]
    assert Invitation.objects.get(organization=world.acme, email="ada@example.test").name == "Ada L"
    for wrong in ("", "nobody", "a@example.test " * 3 + "b@", " ".join(f"p{number}@example.test" for number in range(201))):
        assert client.post(path, {**typed, "emails": wrong}).status_code == 422
    assert "Not an e-mail address: nobody, x@" in client.post(path, {**typed, "emails": "nobody, x@"}).content.decode()
    refused = client.post(path, {**typed, "emails": "ada@example.test"})
    assert "is invited already" in refused.content.decode()
    assert client.post(path, {**typed, "emails": "x@example.test", "group": world.platform.pk}).status_code == 422
    assert Invitation.objects.filter(organization=world.acme).count() == 3


def test_where_mails_reach_nobody_the_link_is_offered_instead(world: World, settings: Any) -> None:
    settings.EMAIL_BACKEND = CONSOLE
    client, path = signed_in(world, "sam"), url(world, "invitations/mail/")
    typed = {"group": world.gateway.pk, "role": "", "days": 30}
    [words] = told(client.post(path, typed | {"emails": "ada@example.test"}))
    made = Invitation.objects.get(organization=world.acme)
    link = url(world, f"invitations/{made.pk}/link/")
    assert words.startswith("Invited ada@example.test. No mail server is set: mails stand in the log of this installation only")
    assert f'<a href="{link}" hx-get="{link}"' in words
    page = client.get(url(world, "invitations/")).content.decode()
    assert f'<a href="{link}" hx-get="{link}"' in page, "in the message, not escaped"
    assert "its mail stands in the log" in page
    words = told(client.post(path, typed | {"emails": "alan@example.test grace@example.test"}))[-1]
    assert words.startswith("Invited 2 people. No mail server is set")
    assert words.endswith("Copy each link from its menu in this list, and pass it on.")
    words = told(client.post(url(world, f"invitations/{made.pk}/send/")))[-1]
    assert "No mail server is set" in words
    assert link in words


def test_a_file_is_shown_before_anybody_is_invited(world: World) -> None:
    Group.objects.filter(pk=world.platform.pk).update(name='R&D "core", west')
    client = signed_in(world, "sam")
    content = client.get(url(world, "invitations/file/template/")).content
    example = ["ada@example.com", "Ada Lovelace", 'engineering / R&D "core", west', "member"]
    assert list(csv.reader(content.decode().splitlines())) == [["email", "name", "group", "role"], example]
    file = SimpleUploadedFile("people.csv", content + b"nobody,,,\r\n")
    response = client.post(url(world, "invitations/file/"), {"file": file})
    page = client.get(response.headers["location"])
    assert (page.context["good"], page.context["bad"]) == (1, 1)
    assert not Invitation.objects.filter(organization=world.acme).exists()
    client.post(response.headers["location"])
    assert Invitation.objects.get(organization=world.acme).email == "ada@example.com"
    assert "confirmed already" in told(client.post(response.headers["location"]))[-1]
    found = MemberImport.objects.get(organization=world.acme)
    assert client.get(url(world, f"invitations/file/{found.pk}/progress/")).headers["hx-redirect"]
    assert signed_in(world, "lena").get(response.headers["location"]).status_code == 404


@pytest.mark.parametrize("content", [b"", b"PK\x00\x00", b"name\nAda\n"])
def test_a_file_that_cannot_be_read_is_refused_with_words(world: World, content: bytes) -> None:
    file = SimpleUploadedFile("people.csv", content)
    assert signed_in(world, "sam").post(url(world, "invitations/file/"), {"file": file}).status_code == 422
    assert not MemberImport.objects.filter(organization=world.acme).exists()
