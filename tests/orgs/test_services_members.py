import pytest

from orgs.actor import Actor
from orgs.errors import NotAllowed, Refused
from orgs.models import AuditEvent, Group, Membership, Organization, RoleGrant, User
from orgs.permissions import Permission, RoleName
from orgs.services.freezing import freeze_person
from orgs.services.invitations import accept, find, invite, link_token
from orgs.services.members import add_member, grant_role, resume_member, revoke_role, suspend_member
from tests.actors import World, make_user, operator


def membership(user: User, group: Group) -> Membership:
    return Membership.objects.get(user=user, group=group)


def test_an_admin_adds_members_at_its_node_and_below(world: World) -> None:
    nina = make_user("nina@example.test")
    made = add_member(nina, group=world.platform, by=world.actor("sam"))
    assert Actor.load(nina, organization=world.acme).belongs_to(world.platform)
    event = AuditEvent.objects.get(object_type="membership", object_id=str(made.pk), action="member.added")
    assert event.after == {"user": nina.pk, "group": world.platform.pk}


@pytest.mark.parametrize(
    ("name", "group"), [("sam", "engineering"), ("lena", "sales"), ("mia", "gateway"), ("alice", "elsewhere")]
)
def test_no_one_adds_members_elsewhere(world: World, name: str, group: str) -> None:
    with pytest.raises(NotAllowed) as missing:
        add_member(make_user("nina@example.test"), group=world.group(group), by=world.actor(name))
    assert missing.value.permission is Permission.MANAGE_MEMBERS


def test_no_one_is_a_member_of_a_node_twice(world: World) -> None:
    with pytest.raises(Refused, match="already a member"):
        add_member(world.mia, group=world.gateway, by=world.actor("alice"))


def test_a_personal_account_stays_personal(world: World) -> None:
    own = Organization.objects.get(kind="personal", memberships__user=world.mia)
    with pytest.raises(Refused, match="one member"):
        add_member(world.sam, group=own.root, by=Actor.load(world.mia, organization=own))


def test_an_archived_group_takes_no_member(world: World) -> None:
    Group.objects.filter(pk=world.sales.pk).update(archived_at="2026-01-01T00:00:00Z")
    with pytest.raises(Refused, match="archived"):
        add_member(world.mia, group=world.sales, by=world.actor("alice"))


def test_suspending_and_resuming_are_audited_once(world: World) -> None:
    mia = membership(world.mia, world.gateway)
    for _ in range(2):
        assert suspend_member(mia, by=world.actor("sam")).suspended_at
    for _ in range(2):
        assert resume_member(mia, by=world.actor("sam")).suspended_at is None
    events = AuditEvent.objects.filter(object_type="membership", object_id=str(mia.pk)).order_by("pk")
    assert [event.action for event in events] == ["member.suspended", "member.resumed"]


@pytest.mark.parametrize("name", ["mia", "noah", "charlie"])
def test_a_member_suspends_no_one(world: World, name: str) -> None:
    with pytest.raises(NotAllowed):
        suspend_member(membership(world.mia, world.gateway), by=world.actor(name))


def test_an_admin_cannot_suspend_the_admin_beside_it(world: World) -> None:
    """Else it would end a grant at its own level, which belongs to the admin above."""
    add_member(world.mia, group=world.engineering, by=world.actor("alice"))
    grant_role(world.mia, role=RoleName.ADMIN, group=world.engineering, by=world.actor("alice"))
    with pytest.raises(NotAllowed) as missing:
        suspend_member(membership(world.mia, world.engineering), by=world.actor("lena"))
    assert missing.value.permission is Permission.GRANT_ROLES
    assert membership(world.mia, world.engineering).suspended_at is None
    suspend_member(membership(world.mia, world.engineering), by=world.actor("alice"))
    assert not world.actor("mia").can(Permission.MANAGE_KEYS, world.platform)


def test_a_suspended_admin_cannot_be_brought_back_by_its_neighbour(world: World) -> None:
    lena = membership(world.lena, world.engineering)
    add_member(world.mia, group=world.engineering, by=world.actor("alice"))
    grant_role(world.mia, role=RoleName.ADMIN, group=world.engineering, by=world.actor("alice"))
    suspend_member(lena, by=world.actor("alice"))
    with pytest.raises(NotAllowed):
        resume_member(lena, by=world.actor("mia"))


@pytest.mark.parametrize("way", ["by hand", "by link"])
def test_another_membership_brings_no_suspended_person_back(world: World, way: str) -> None:
    """With a live one anywhere, roles and keys of all other places would count again."""
    alice = world.actor("alice")
    grant_role(world.lena, role=RoleName.FINANCE, group=world.field, by=alice)
    link = find(link_token(invite(world.sales, by=alice)))
    suspend_member(membership(world.lena, world.engineering), by=alice)
    assert link is not None
    with pytest.raises(Refused, match="suspended"):
        accept(link, user=world.lena) if way == "by link" else add_member(world.lena, group=world.sales, by=alice)
    assert not world.actor("lena").can_anywhere(Permission.VIEW_BILLING)


def test_the_last_super_admin_stays(world: World) -> None:
    alice = world.actor("alice")
    with pytest.raises(Refused, match="at least one Super Admin"):
        suspend_member(membership(world.alice, world.root), by=alice)
    with pytest.raises(Refused, match="at least one Super Admin"):
        revoke_role(RoleGrant.objects.get(user=world.alice, group=world.root), by=alice)
    assert world.actor("alice").can(Permission.GRANT_ROLES, world.root)
    grant_role(world.lena, role=RoleName.ADMIN, group=world.root, by=alice)
    revoke_role(RoleGrant.objects.get(user=world.alice, group=world.root), by=alice)
    assert world.actor("alice").role_label == "Member"


def test_a_suspended_super_admin_does_not_count_as_one(world: World) -> None:
    alice = world.actor("alice")
    add_member(world.lena, group=world.root, by=alice)
    grant_role(world.lena, role=RoleName.ADMIN, group=world.root, by=alice)
    suspend_member(membership(world.lena, world.root), by=alice)
    with pytest.raises(Refused, match="at least one Super Admin"):
        suspend_member(membership(world.alice, world.root), by=alice)


def test_while_the_operator_has_frozen_the_last_super_admin_others_can_still_be_stopped(world: World) -> None:
    freeze_person(world.alice, reason="stolen password", by=operator())
    revoke_role(RoleGrant.objects.get(user=world.sam, group=world.platform), by=world.actor("lena"))
    assert suspend_member(membership(world.mia, world.gateway), by=world.actor("lena")).suspended_at


def test_roles_are_granted_below_ones_own_node(world: World) -> None:
    grant = grant_role(world.mia, role=RoleName.AUDITOR, group=world.core, by=world.actor("sam"))
    assert world.actor("mia").can(Permission.VIEW_AUDIT, world.core)
    event = AuditEvent.objects.get(object_type="rolegrant", object_id=str(grant.pk), action="role.granted")
    assert event.after == {"user": world.mia.pk, "group": world.core.pk, "role": "auditor"}


@pytest.mark.parametrize(
    ("name", "group"),
    [("sam", "platform"), ("sam", "engineering"), ("lena", "engineering"), ("lena", "field"), ("mia", "gateway")],
)
def test_roles_at_ones_own_level_belong_to_the_admin_above(world: World, name: str, group: str) -> None:
    with pytest.raises(NotAllowed):
        grant_role(world.mia, role=RoleName.ADMIN, group=world.group(group), by=world.actor(name))


def test_an_admin_cannot_revoke_a_grant_at_its_own_level(world: World) -> None:
    with pytest.raises(NotAllowed):
        revoke_role(RoleGrant.objects.get(user=world.lena, group=world.engineering), by=world.actor("lena"))


def test_another_organisations_grants_are_out_of_reach(world: World) -> None:
    with pytest.raises(NotAllowed):
        revoke_role(RoleGrant.objects.get(user=world.charlie, group=world.other.root), by=world.actor("alice"))


def test_revoking_leaves_the_grant_in_the_audit_trail(world: World) -> None:
    grant = RoleGrant.objects.get(user=world.sam, group=world.platform)
    revoke_role(grant, by=world.actor("lena"))
    assert world.actor("sam").permissions_at(world.platform) == {Permission.VIEW_OWN, Permission.MANAGE_OWN_KEYS}
    event = AuditEvent.objects.get(organization=world.acme, action="role.revoked")
    assert (event.object_id, event.before["user"], event.before["role"]) == (str(grant.pk), world.sam.pk, "admin")


def test_a_role_needs_an_active_member_and_is_granted_once(world: World) -> None:
    alice = world.actor("alice")
    with pytest.raises(Refused, match="not an active member"):
        grant_role(world.charlie, role=RoleName.ADMIN, group=world.sales, by=alice)
    with pytest.raises(Refused, match="already has this role"):
        grant_role(world.lena, role=RoleName.ADMIN, group=world.engineering, by=alice)


def test_nothing_is_given_where_the_person_is_suspended(world: World) -> None:
    alice = world.actor("alice")
    add_member(world.mia, group=world.sales, by=alice)
    suspend_member(membership(world.mia, world.gateway), by=alice)
    with pytest.raises(Refused, match="suspended there"):
        grant_role(world.mia, role=RoleName.ADMIN, group=world.core, by=alice)
    with pytest.raises(Refused, match="suspended there"):
        add_member(world.mia, group=world.core, by=alice)
    grant_role(world.mia, role=RoleName.ADMIN, group=world.sales, by=alice)
