"""Moving, removing and leaving: what goes along, what ends, and what is refused with nothing changed."""

import pytest

from orgs import checks
from orgs.actor import Actor
from orgs.errors import NotAllowed, Refused
from orgs.models import ApiKey, AuditEvent, Group, Membership, Organization, RoleGrant, User
from orgs.permissions import Permission, RoleName
from orgs.services.departures import leave_organization, move_member, remove_member, what_ends, what_moves
from orgs.services.keys import create_api_key, disable_key, enable_key
from orgs.services.members import add_member, grant_role, suspend_member
from orgs.services.roles import create_role
from tests.actors import World

MOVES = [Permission.MANAGE_MEMBERS, Permission.GRANT_ROLES]


def membership(user: User, group: Group) -> Membership:
    return Membership.objects.select_related("user", "organization").get(user=user, group=group)


def mias(world: World) -> Membership:
    return membership(world.mia, world.gateway)


def actions(world: World) -> list[str]:
    return list(AuditEvent.objects.filter(organization=world.acme).order_by("pk").values_list("action", flat=True))


def key_now(world: World) -> ApiKey:
    return ApiKey.objects.get(pk=world.key.pk)


# --- moving -----------------------------------------------------------------------------------------


def test_keys_move_along_and_history_stays(world: World) -> None:
    move_member(mias(world), group=world.core, by=world.actor("sam"))
    key = key_now(world)
    assert (key.group, key.status) == (world.group("core"), "active")
    assert world.actor("mia").belongs_to(world.group("core"))
    assert not world.actor("mia").belongs_to(world.group("gateway"))
    assert actions(world)[-2:] == ["key.moved", "member.moved"]


def test_a_key_of_an_application_out_of_reach_stays_disabled(world: World) -> None:
    bound, _ = create_api_key(world.gateway, name="Bound", member=world.mia, application=world.assistant, by=world.actor("mia"))
    move_member(mias(world), group=world.core, by=world.actor("alice"))
    assert ApiKey.objects.get(pk=bound.pk).group == world.group("core")
    move_member(membership(world.mia, world.core), group=world.sales, by=world.actor("alice"))
    left = ApiKey.objects.get(pk=bound.pk)
    assert (left.group, left.status, left.disabled_by) == (world.group("core"), "disabled", world.alice)
    assert key_now(world).group == world.group("sales")


@pytest.mark.parametrize("mover", ["alice", "mia"])
def test_who_was_moved_brings_back_no_key_that_stayed_behind(world: World, mover: str) -> None:
    """Neither one that it had disabled itself before, nor by having moved itself."""
    alice, mia = world.actor("alice"), world.actor("mia")
    bound, _ = create_api_key(world.gateway, name="Bound", member=world.mia, application=world.assistant, by=mia)
    grant_role(world.mia, role=create_role(world.root, name="Mover", permissions=MOVES, by=alice), group=world.root, by=alice)
    if mover == "alice":
        disable_key(bound, by=mia)
    move_member(mias(world), group=world.sales, by=world.actor(mover))
    assert actions(world)[-3:] == ["key.moved", "key.disabled", "member.moved"]
    with pytest.raises(NotAllowed):
        enable_key(bound, by=world.actor("mia"))
    left = ApiKey.objects.get(pk=bound.pk)
    assert (left.group, left.status) == (world.gateway, "disabled")


def test_before_a_place_is_chosen_what_goes_is_what_no_role_lets_stay(world: World) -> None:
    add_member(world.lena, group=world.platform, by=world.actor("alice"))
    lena = world.actor("lena")
    for group in (world.platform, world.core):
        create_api_key(group, name=str(group), member=world.lena, by=lena)
    asked = what_moves(membership(world.lena, world.platform), group=None)
    moved = what_moves(membership(world.lena, world.platform), group=world.sales)
    assert [key.name for key in asked.moved] == [key.name for key in moved.moved] == ["platform"]


@pytest.mark.parametrize("keep", [False, True])
def test_roles_at_the_old_group_end_unless_they_are_kept(world: World, keep: bool) -> None:
    grant_role(world.mia, role=RoleName.FINANCE, group=world.gateway, by=world.actor("alice"))
    grant_role(world.mia, role=RoleName.AUDITOR, group=world.root, by=world.actor("alice"))
    move_member(mias(world), group=world.sales, by=world.actor("alice"), keep_roles=keep)
    held = {grant.role for grant in world.actor("mia").grants}
    assert held == ({"auditor", "finance"} if keep else {"auditor"})


@pytest.mark.parametrize("keep", [False, True])
def test_keys_that_only_a_role_let_be_below_do_not_outlive_it_there(world: World, keep: bool) -> None:
    alice = world.actor("alice")
    below, _ = create_api_key(world.core, name="Sam's", member=world.sam, by=world.actor("sam"))
    move_member(membership(world.sam, world.platform), group=world.sales, by=alice, keep_roles=keep)
    assert ApiKey.objects.get(pk=below.pk).group == world.group("core" if keep else "sales")
    assert key_now(world).group == world.group("gateway")


def test_a_move_needs_the_members_of_both_groups(world: World) -> None:
    for name, group in (("sam", "sales"), ("sam", "engineering"), ("noah", "field"), ("charlie", "elsewhere")):
        with pytest.raises(NotAllowed):
            move_member(mias(world), group=world.group(group), by=world.actor(name))
    assert world.actor("mia").belongs_to(world.group("gateway"))


def test_nobody_moves_the_admin_beside_or_itself(world: World) -> None:
    for by in ("sam", "lena"):
        own = membership(getattr(world, by), world.group({"sam": "platform", "lena": "engineering"}[by]))
        with pytest.raises(NotAllowed):
            move_member(own, group=world.core, by=world.actor(by))


def test_what_makes_no_sense_is_refused_with_the_reason(world: World) -> None:
    alice = world.actor("alice")
    add_member(world.mia, group=world.core, by=alice)
    Group.objects.filter(pk=world.field.pk).update(archived_at="2026-01-01T00:00:00Z")
    for group, words in (("gateway", "in gateway already"), ("core", "already a member"), ("field", "archived")):
        with pytest.raises(Refused, match=words):
            move_member(mias(world), group=world.group(group), by=alice)
    suspend_member(mias(world), by=alice)
    with pytest.raises(Refused, match="suspended"):
        move_member(mias(world), group=world.sales, by=alice)
    assert key_now(world).group == world.group("gateway")


def test_a_seat_is_asked_for_at_the_new_group(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(group: Group, *, user: User | None) -> None:
        raise Refused(f"{group} is full")

    monkeypatch.setattr(checks, "_seat_checks", [full])
    with pytest.raises(Refused, match="sales is full"):
        move_member(mias(world), group=world.sales, by=world.actor("alice"))


# --- removing ---------------------------------------------------------------------------------------


def test_removing_ends_keys_and_roles(world: World) -> None:
    grant_role(world.mia, role=RoleName.FINANCE, group=world.gateway, by=world.actor("sam"))
    remove_member(mias(world), by=world.actor("sam"))
    assert key_now(world).status == "revoked"
    assert not Actor.load(world.mia, organization=world.acme).belongs
    assert not RoleGrant.objects.filter(user=world.mia, organization=world.acme).exists()
    assert actions(world)[-3:] == ["role.revoked", "key.revoked", "member.removed"]
    assert Actor.load(world.mia, organization=Organization.objects.get(kind="personal", grants__user=world.mia)).belongs


def test_what_another_membership_below_carries_stays(world: World) -> None:
    alice = world.actor("alice")
    add_member(world.mia, group=world.platform, by=alice)
    add_member(world.mia, group=world.sales, by=alice)
    far, _ = create_api_key(world.sales, name="Far", member=world.mia, by=world.actor("mia"))
    near, _ = create_api_key(world.platform, name="Near", member=world.mia, by=world.actor("mia"))
    grant_role(world.mia, role=RoleName.FINANCE, group=world.core, by=alice)
    loss = what_ends(membership(world.mia, world.platform))
    assert ([key.name for key in loss.keys], loss.roles) == (["Near"], [])
    remove_member(membership(world.mia, world.platform), by=alice)
    alive = {key.pk: ApiKey.objects.get(pk=key.pk).status for key in (far, near, world.key)}
    assert alive == {far.pk: "active", near.pk: "revoked", world.key.pk: "active"}


def test_the_last_membership_takes_everything_along(world: World) -> None:
    """So it needs power over everything."""
    grant_role(world.mia, role=RoleName.FINANCE, group=world.root, by=world.actor("alice"))
    with pytest.raises(NotAllowed):
        remove_member(mias(world), by=world.actor("sam"))
    assert key_now(world).status == "active"
    remove_member(mias(world), by=world.actor("alice"))
    assert not RoleGrant.objects.filter(user=world.mia, organization=world.acme).exists()


@pytest.mark.parametrize(
    ("name", "whom"), [("mia", "mia"), ("sam", "lena"), ("sam", "sam"), ("lena", "lena"), ("charlie", "mia")]
)
def test_an_admin_removes_below_itself_only(world: World, name: str, whom: str) -> None:
    homes = {"mia": world.gateway, "sam": world.platform, "lena": world.engineering}
    with pytest.raises(NotAllowed):
        remove_member(membership(getattr(world, whom), homes[whom]), by=world.actor(name))


def test_the_last_super_admin_stays(world: World) -> None:
    own = membership(world.alice, world.root)
    for attempt in (
        lambda: remove_member(own, by=world.actor("alice")),
        lambda: leave_organization(world.actor("alice")),
        lambda: move_member(own, group=world.sales, by=world.actor("alice")),
    ):
        with pytest.raises(Refused, match="at least one Super Admin"):
            attempt()
    assert world.actor("alice").belongs_to(world.root)
    grant_role(world.lena, role=RoleName.ADMIN, group=world.root, by=world.actor("alice"))
    leave_organization(world.actor("alice"))
    assert not Actor.load(world.alice, organization=world.acme).belongs


def test_a_member_that_is_gone_is_not_removed_twice(world: World) -> None:
    known = mias(world)
    remove_member(known, by=world.actor("sam"))
    for attempt in (remove_member, suspend_member):
        with pytest.raises(Refused, match="no member there any more"):
            attempt(known, by=world.actor("alice"))


# --- leaving ----------------------------------------------------------------------------------------


def test_a_member_leaves_with_everything(world: World) -> None:
    add_member(world.mia, group=world.sales, by=world.actor("alice"))
    leave_organization(world.actor("mia"))
    assert not Membership.objects.filter(user=world.mia, organization=world.acme).exists()
    assert key_now(world).status == "revoked"
    assert actions(world).count("member.left") == 2
    with pytest.raises(Refused, match="do not belong"):
        leave_organization(Actor.load(world.mia, organization=world.acme))


def test_nobody_leaves_a_suspension_behind(world: World) -> None:
    add_member(world.mia, group=world.sales, by=world.actor("alice"))
    suspend_member(Membership.objects.get(user=world.mia, group=world.gateway), by=world.actor("sam"))
    with pytest.raises(Refused, match="suspended at gateway"):
        leave_organization(world.actor("mia"))


def test_nobody_leaves_home(world: World) -> None:
    own = Organization.objects.get(kind="personal", grants__user=world.mia)
    with pytest.raises(Refused, match="personal account"):
        leave_organization(Actor.load(world.mia, organization=own))
