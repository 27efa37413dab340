"""Invitations through the services: who may make them, who may accept them, and that nothing changes where one is refused."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from allauth.account.models import EmailAddress
from django.core import mail
from django.db import connections
from django.utils import timezone

from gateway_project.lib.crypto import CannotDecrypt
from orgs import checks, invitation_mail
from orgs.actor import Actor
from orgs.errors import NotAllowed, Refused
from orgs.models import AuditEvent, Group, Invitation, Membership, Organization, RoleGrant, User
from orgs.permissions import Permission, RoleName
from orgs.services import invitations
from orgs.services.invitations import Wrong, accept, find, fresh_mail_token, invite, link_token, revoke_invitation
from orgs.services.inviting import invite_many
from orgs.services.members import add_member, grant_role, revoke_role, suspend_member
from orgs.services.roles import create_role, delete_role
from tests.actors import World, make_user, make_world

ADDRESS = "ada@example.test"


def made(world: World, *, group: str = "gateway", by: str = "sam", **wanted: Any) -> Invitation:
    return invite(world.group(group), by=world.actor(by), **wanted)


def accepted(invitation: Invitation, user: User, *, token: str = "") -> Membership:
    found = find(token or link_token(invitation))
    assert found is not None
    return accept(found, user=user)


def person(email: str = ADDRESS, *, verified: bool = True) -> User:
    user = make_user(email)
    EmailAddress.objects.create(user=user, email=email, primary=True, verified=verified)
    return user


def unchanged(world: World, user: User) -> bool:
    return not Membership.objects.filter(user=user, organization=world.acme).exists()


# --- making ---------------------------------------------------------------------------------------


def test_whoever_has_the_link_becomes_a_member(world: World) -> None:
    invitation = made(world)
    ada = make_user(ADDRESS)
    membership = accepted(invitation, ada)
    assert (membership.group, membership.user) == (world.gateway, ada)
    assert Actor.load(ada, organization=world.acme).permissions_at(world.group("gateway")) == {
        Permission.VIEW_OWN,
        Permission.MANAGE_OWN_KEYS,
    }
    events = AuditEvent.objects.filter(organization=world.acme).order_by("-pk")[:2]
    assert [(event.action, event.actor) for event in events] == [("member.invited", ada), ("invitation.created", world.sam)]


def test_the_role_comes_along(world: World) -> None:
    admin = make_user("one@example.test")
    accepted(made(world, role=RoleName.ADMIN), admin)
    assert Actor.load(admin, organization=world.acme).role_label == "Sub-admin"
    role = create_role(world.engineering, name="Watcher", permissions=[Permission.VIEW_USAGE], by=world.actor("alice"))
    watcher = make_user("two@example.test")
    accepted(made(world, role=role, by="lena"), watcher)
    assert Actor.load(watcher, organization=world.acme).role_label == "Watcher"


def test_only_the_digest_and_a_sealed_copy_of_the_token_are_kept(world: World) -> None:
    invitation = made(world)
    token = link_token(invitation)
    row = str(Invitation.objects.filter(pk=invitation.pk).values().get())
    assert token not in row
    Invitation.objects.filter(pk=invitation.pk).update(sealed=made(world).sealed)
    invitation.refresh_from_db()
    with pytest.raises(CannotDecrypt):
        link_token(invitation)


@pytest.mark.parametrize(
    ("by", "group", "role"),
    [
        ("sam", "engineering", None),
        ("sam", "sales", None),
        ("sam", "platform", RoleName.ADMIN),  # its own level
        ("lena", "engineering", RoleName.FINANCE),
        ("mia", "gateway", None),
        ("charlie", "gateway", None),
        ("alice", "elsewhere", None),
    ],
)
def test_nobody_invites_to_more_than_it_may_give(world: World, by: str, group: str, role: RoleName | None) -> None:
    with pytest.raises(NotAllowed):
        made(world, by=by, group=group, role=role)
    assert not Invitation.objects.filter(organization=world.acme).exists()


def test_a_role_that_allows_more_than_the_inviter_may_is_not_given(world: World) -> None:
    strong = create_role(world.root, name="Strong", permissions=[Permission.TOP_UP], by=world.actor("alice"))
    with pytest.raises(NotAllowed):
        made(world, role=strong)


@pytest.mark.parametrize(
    ("wanted", "field"),
    [
        ({"email": "no address"}, "email"),
        ({"email": "a" * 250 + "@example.test"}, "email"),
        ({"max_uses": 0}, "max_uses"),
        ({"max_uses": 10_001}, "max_uses"),
        ({"expires_at": timezone.now() - timedelta(minutes=1)}, "days"),
        ({"expires_at": timezone.now() + timedelta(days=400)}, "days"),
    ],
)
def test_what_makes_no_sense_is_refused(world: World, wanted: dict[str, Any], field: str) -> None:
    with pytest.raises(Refused) as refused:
        made(world, **wanted)
    assert refused.value.field == field


def test_a_name_that_comes_with_an_address_keeps_its_visible_letters(world: World) -> None:
    """It becomes the person's, and is shown to others: nothing in it may turn the words around it."""
    invitation = made(world, email="ada@example.test", name=" A\u202eda \0 Love\u0301lace " + "x" * 200)
    assert invitation.name == ("Ada  Lov\u00e9lace " + "x" * 200)[:120]


def test_who_is_there_or_invited_is_not_invited_again(world: World) -> None:
    made(world, email=ADDRESS)
    for address, words in ((ADDRESS, "invited already"), (world.mia.email, "a member already")):
        with pytest.raises(Refused, match=words):
            made(world, email=address.upper())
    assert made(world, email=ADDRESS, group="core")
    outcome = invite_many([("new@example.test", "New"), (ADDRESS, "")], group=world.gateway, by=world.actor("sam"))
    assert ([one.email for one in outcome.made], len(outcome.refused)) == (["new@example.test"], 1)


def test_so_many_a_day_and_no_more(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(invitations, "MOST_A_DAY", 2)
    made(world)
    revoke_invitation(made(world), by=world.actor("sam"))
    with pytest.raises(Refused, match="wait until tomorrow"):
        made(world)


def test_an_archived_group_and_a_personal_account_take_nobody(world: World) -> None:
    Group.objects.filter(pk=world.gateway.pk).update(archived_at=timezone.now())
    with pytest.raises(Refused, match="archived"):
        made(world)
    own = Organization.objects.get(kind="personal", grants__user=world.mia)
    with pytest.raises(Refused, match="one member"):
        invite(own.root, by=Actor.load(world.mia, organization=own))


def test_a_role_that_an_open_invitation_gives_is_not_deleted(world: World) -> None:
    role = create_role(world.root, name="Watcher", permissions=[Permission.VIEW_USAGE], by=world.actor("alice"))
    invitation = made(world, role=role, by="alice")
    with pytest.raises(Refused, match="open invitation"):
        delete_role(role, by=world.actor("alice"))
    revoke_invitation(invitation, by=world.actor("alice"))
    delete_role(role, by=world.actor("alice"))


# --- accepting ------------------------------------------------------------------------------------


def close(world: World, invitation: Invitation, how: str) -> None:
    lena = world.actor("lena")
    match how:
        case "revoked":
            revoke_invitation(invitation, by=lena)
        case "expired":
            Invitation.objects.filter(pk=invitation.pk).update(expires_at=timezone.now())
        case "used up":
            accepted(invitation, make_user("first@example.test"))
        case "archived":
            Group.objects.filter(pk=world.gateway.pk).update(archived_at=timezone.now())
        case "archived above":
            Group.objects.filter(pk=world.engineering.pk).update(archived_at=timezone.now())
        case "inviter suspended":
            suspend_member(world.actor("sam").memberships[0], by=lena)
        case "inviter demoted":
            revoke_role(world.actor("sam").grants[0], by=lena)
        case "inviter frozen":
            User.objects.filter(pk=world.sam.pk).update(is_active=False)
        case "organisation frozen":
            Organization.objects.filter(pk=world.acme.pk).update(frozen_at=timezone.now())


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("revoked", "taken back"),
        ("expired", "expired on"),
        ("used up", "accepted already"),
        ("archived", "gateway was archived"),
        ("archived above", "engineering was archived"),
        ("inviter suspended", "may no longer invite"),
        ("inviter demoted", "may no longer invite"),
        ("inviter frozen", "may no longer invite"),
        ("organisation frozen", "frozen"),
    ],
)
def test_a_closed_invitation_lets_nobody_in(world: World, how: str, words: str) -> None:
    invitation = made(world)
    token = link_token(invitation)
    close(world, invitation, how)
    ada = make_user(ADDRESS)
    with pytest.raises(Refused, match=words):
        accepted(invitation, ada, token=token)
    assert unchanged(world, ada)


def test_the_role_is_judged_again_when_it_is_accepted(world: World) -> None:
    """The inviter may still invite, but no longer grant."""
    invitation = made(world, role=RoleName.FINANCE)
    lead = create_role(world.root, name="Lead", permissions=[Permission.MANAGE_MEMBERS], by=world.actor("alice"))
    grant_role(world.sam, role=lead, group=world.platform, by=world.actor("alice"))
    revoke_role(next(grant for grant in world.actor("sam").grants if grant.role), by=world.actor("lena"))
    ada = make_user(ADDRESS)
    with pytest.raises(Refused, match="may no longer invite"):
        accepted(invitation, ada)
    assert unchanged(world, ada)


def test_an_invitation_for_an_address_lets_in_whoever_owns_it(world: World) -> None:
    invitation = made(world, email=ADDRESS)
    stranger, unverified = person("other@example.test"), person(verified=False)
    with pytest.raises(Wrong) as wrong:
        accepted(invitation, stranger)
    assert wrong.value.needs == "address"
    with pytest.raises(Wrong) as wrong:
        accepted(invitation, unverified)
    assert wrong.value.needs == "verification"
    assert unchanged(world, stranger)
    assert unchanged(world, unverified)
    EmailAddress.objects.filter(user=unverified).update(verified=True)
    assert accepted(invitation, unverified).group == world.gateway


def test_the_mails_own_token_proves_the_address_and_the_newest_mail_counts(world: World) -> None:
    invitation = made(world, email=ADDRESS)
    older, newer = fresh_mail_token(invitation), fresh_mail_token(invitation)
    ada = person(verified=False)
    assert find(older) is None
    with pytest.raises(Wrong):
        accepted(invitation, person("other@example.test"), token=newer)
    assert accepted(invitation, ada, token=newer).user == ada


def test_who_belongs_already_or_is_suspended_there_is_told(world: World) -> None:
    invitation = made(world, max_uses=None)
    with pytest.raises(Refused, match="belong to gateway already"):
        accepted(invitation, world.mia)
    add_member(world.noah, group=world.platform, by=world.actor("alice"))
    suspend_member(Membership.objects.get(user=world.noah, group=world.platform), by=world.actor("alice"))
    with pytest.raises(Refused, match="suspended"):
        accepted(invitation, world.noah)
    assert Invitation.objects.get(pk=invitation.pk).uses == 0


def test_the_last_seat_is_not_given_twice(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    invitation = made(world)

    def full(group: Group, *, user: User | None) -> None:
        raise Refused("All seats are taken.")

    monkeypatch.setattr(checks, "_seat_checks", [full])
    ada = make_user(ADDRESS)
    with pytest.raises(Refused, match="seats"):
        accepted(invitation, ada)
    with pytest.raises(Refused, match="seats"):
        made(world, email=ADDRESS)
    assert unchanged(world, ada)


def test_a_name_that_was_given_is_kept_until_the_person_has_one(world: World) -> None:
    ada, alan = person(), person("alan@example.test")
    User.objects.filter(pk=alan.pk).update(name="Alan T.")
    for user in (ada, User.objects.get(pk=alan.pk)):
        accepted(made(world, email=user.email, name="Somebody"), user)
    assert [User.objects.get(pk=user.pk).name for user in (ada, alan)] == ["Somebody", "Alan T."]


def test_the_last_use_is_taken_by_one(committed_db: None) -> None:
    world = make_world()
    invitation = made(world, max_uses=2, role=RoleName.FINANCE)
    token = link_token(invitation)
    people = [make_user(f"{name}.{world.acme.slug}@example.test") for name in "abcdef"]

    def attempt(user: User) -> bool:
        try:
            accepted(invitation, user, token=token)
        except Refused:
            return False
        finally:
            connections.close_all()
        return True

    with ThreadPoolExecutor(6) as pool:
        outcomes = list(pool.map(attempt, people))
    assert sum(outcomes) == 2
    assert Membership.objects.filter(user__in=people).count() == RoleGrant.objects.filter(user__in=people).count() == 2
    invitation.refresh_from_db()
    assert (invitation.uses, invitation.status, invitation.sealed) == (2, "used up", "")


def test_whoever_may_not_make_an_invitation_does_not_take_it_back(world: World) -> None:
    invitation = made(world, group="platform", role=RoleName.ADMIN, by="lena")
    for name in ("sam", "mia", "charlie"):
        with pytest.raises(NotAllowed):
            revoke_invitation(invitation, by=world.actor(name))
    for _ in range(2):
        assert revoke_invitation(invitation, by=world.actor("alice")).status == "revoked"
    assert AuditEvent.objects.filter(action="invitation.revoked").count() == 1


@pytest.mark.parametrize("token", ["", "x", "x" * 43, "x" * 5000])
def test_what_is_no_token_finds_nothing(world: World, token: str) -> None:
    made(world)
    assert find(token) is None


# --- mails ----------------------------------------------------------------------------------------


def test_the_mail_says_who_invites_to_what_and_opens_the_invitation(world: World) -> None:
    invitation = made(world, email=ADDRESS, name="Ada", role=RoleName.ADMIN)
    assert invitation_mail.send(invitation.pk)
    [sent] = mail.outbox
    assert (sent.to, "Sam invites you" in sent.subject) == ([ADDRESS], True)
    text, html = " ".join(str(sent.body).split()), " ".join(str(sent.alternatives[0][0]).split())  # type: ignore[union-attr]
    for body in (text, html):
        assert "Sub-admin of engineering / platform / gateway" in body
        assert "Hello Ada," in body
    token = str(sent.body).split("/invite/")[1].split("/")[0]
    found = find(token)
    assert found is not None
    assert found.mailed
    invitation.refresh_from_db()
    assert invitation.sent_at


def test_what_is_closed_is_not_sent(world: World) -> None:
    invitation = made(world, email=ADDRESS)
    revoke_invitation(invitation, by=world.actor("sam"))
    assert not invitation_mail.send(invitation.pk)
    assert not invitation_mail.send(0)
    assert not mail.outbox


def test_a_mail_server_that_is_away_is_written_down(world: World, settings: Any) -> None:
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", 1
    invitation = made(world, email=ADDRESS)
    assert not invitation_mail.send(invitation.pk)
    invitation.refresh_from_db()
    assert (invitation.send_error, invitation.sent_at) == (invitation_mail.NOT_TAKEN, None)
