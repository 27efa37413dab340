"""What policies are bound to: by whom, as what, and how it ends."""

import pytest

from guardrails.models import Binding, Policy
from guardrails.services.bindings import bind, unbind
from guardrails.services.key_limits import set_key_limits
from guardrails.services.policies import LimitSpec, copy_policy, create_policy
from orgs.actor import Actor
from orgs.errors import NotAllowed, Refused
from orgs.models import AuditEvent
from orgs.permissions import RoleName
from orgs.services.departures import remove_member
from orgs.services.keys import revoke_key
from orgs.services.members import add_member, grant_role, revoke_role
from tests.actors import World

CENT = 10_000_000


def made(world: World, *, by: str = "alice") -> Policy:
    return create_policy(world.acme, name="Team", limits=[LimitSpec("budget", "day", CENT)], by=world.actor(by))


def test_a_policy_binds_groups_members_keys_and_applications(world: World) -> None:
    alice = world.actor("alice")
    policy = create_policy(world.acme, name="  Fair   use ", limits=[LimitSpec("budget", "day", CENT)], by=alice)
    for subject in (world.root, world.platform, world.mia, world.key, world.assistant):
        bind(policy, subject=subject, by=alice)
        bind(policy, subject=subject, by=alice)
    assert policy.name == "Fair use"
    assert policy.bindings.count() == 5
    assert AuditEvent.objects.filter(organization=world.acme, action="policy.bound").count() == 5


def test_an_admin_binds_below_its_own_node_only(world: World) -> None:
    policy = create_policy(world.acme, name="Team", limits=[LimitSpec("budget", "day", CENT)], by=world.actor("sam"))
    bind(policy, subject=world.gateway, by=world.actor("sam"))
    bind(policy, subject=world.mia, by=world.actor("sam"))
    for subject in (world.platform, world.root, world.noah, world.sam, world.other.root):
        with pytest.raises((NotAllowed, Refused)):
            bind(policy, subject=subject, by=world.actor("sam"))


def test_what_governs_nobody_is_not_taken_by_an_admin_beside_its_maker(world: World) -> None:
    alice = world.actor("alice")
    grant_role(world.noah, role=RoleName.ADMIN, group=world.sales, by=alice)
    own = create_policy(world.acme, name="Mine", limits=[LimitSpec("budget", "day", CENT)], by=world.actor("sam"))
    with pytest.raises(Refused, match="made by Sam, for another place"):
        bind(own, subject=world.field, by=world.actor("noah"))
    bind(copy_policy(own, by=world.actor("noah")), subject=world.field, by=world.actor("noah"))
    bind(own, subject=world.gateway, by=world.actor("sam"))
    bind(own, subject=world.field, by=world.actor("noah"))


@pytest.mark.parametrize(
    ("maker", "binder", "where"), [("sam", "lena", "platform"), ("sam", "alice", "sales"), ("lena", "sam", "gateway")]
)
def test_what_governs_nobody_goes_up_and_down_the_tree(world: World, maker: str, binder: str, where: str) -> None:
    policy = made(world, by=maker)
    for _ in range(2):
        binding = bind(policy, subject=world.group(where), by=world.actor(binder))
        assert list(policy.bindings.all()) == [binding]
        unbind(binding, by=world.actor(binder))


@pytest.mark.parametrize("gone", ["role", "member", "command"])
def test_what_was_made_by_nobody_who_is_an_admin_still_goes_to_no_place_beside(world: World, gone: str) -> None:
    """Where it never governed anything, only whoever manages guardrails of the whole organisation may say what it is for."""
    alice = world.actor("alice")
    grant_role(world.noah, role=RoleName.ADMIN, group=world.sales, by=alice)
    maker = Actor.of_command("org apply", organization=world.acme) if gone == "command" else world.actor("sam")
    policy = create_policy(world.acme, name="Left", limits=[], by=maker)
    if gone == "role":
        revoke_role(world.sam.grants.get(), by=world.actor("lena"))
    if gone == "member":
        remove_member(world.sam.memberships.get(organization=world.acme), by=world.actor("lena"))
    for name, where in (("noah", world.field), ("lena", world.gateway)):
        with pytest.raises(Refused, match=f"manages no guardrails any more.* of {world.acme.name} may bind it"):
            bind(policy, subject=where, by=world.actor(name))
    assert bind(policy, subject=world.field, by=alice).group == world.field


def test_what_its_maker_left_unbound_stays_with_the_place_that_it_governed_last(world: World) -> None:
    policy = made(world, by="sam")
    grant_role(world.noah, role=RoleName.ADMIN, group=world.sales, by=world.actor("alice"))
    unbind(bind(policy, subject=world.gateway, by=world.actor("sam")), by=world.actor("sam"))
    revoke_role(world.sam.grants.get(), by=world.actor("lena"))
    with pytest.raises(Refused, match="Whoever manages those of gateway may bind it"):
        bind(policy, subject=world.field, by=world.actor("noah"))
    assert bind(policy, subject=world.platform, by=world.actor("lena")).group == world.platform


def test_a_keys_own_policy_binds_nothing_else(world: World) -> None:
    set_key_limits(world.key, by=world.actor("mia"), rpm=5)
    own = Policy.objects.get(dedicated=True, bindings__api_key=world.key)
    with pytest.raises(Refused):
        bind(own, subject=world.platform, by=world.actor("alice"))


def test_nothing_of_another_organisation_is_bound(world: World) -> None:
    policy = made(world)
    with pytest.raises(Refused):
        bind(policy, subject=world.other.root, by=world.actor("charlie"))
    with pytest.raises(Refused, match="not a member"):
        bind(policy, subject=world.charlie, by=world.actor("alice"))


@pytest.mark.parametrize("reach", ["members", "keys"])
def test_a_default_stands_beside_the_same_policy_on_the_group(world: World, reach: str) -> None:
    policy, alice = made(world), world.actor("alice")
    bind(policy, subject=world.platform, by=alice)
    for _ in range(2):
        bind(policy, subject=world.platform, reach=reach, by=alice)
    assert sorted(policy.bindings.values_list("reach", flat=True)) == sorted(["self", reach])
    event = AuditEvent.objects.filter(organization=world.acme, action="policy.bound").latest("pk")
    assert event.after["reach"] == reach


@pytest.mark.parametrize("subject", ["mia", "key", "assistant"])
def test_only_a_group_has_something_below_it(world: World, subject: str) -> None:
    with pytest.raises(Refused) as refused:
        bind(made(world), subject=getattr(world, subject), reach="members", by=world.actor("alice"))
    assert refused.value.field == "reach"


def test_an_unknown_reach_is_refused(world: World) -> None:
    with pytest.raises(Refused):
        bind(made(world), subject=world.platform, reach="everything", by=world.actor("alice"))


def test_what_is_gone_is_bound_no_more(world: World) -> None:
    revoke_key(world.key, by=world.actor("mia"))
    world.key.refresh_from_db()
    with pytest.raises(Refused, match="deleted"):
        bind(made(world), subject=world.key, by=world.actor("alice"))


def test_a_deleted_policy_is_bound_no_more(world: World) -> None:
    policy = made(world)
    Policy.objects.filter(pk=policy.pk).delete()
    with pytest.raises(Refused):
        bind(policy, subject=world.platform, by=world.actor("alice"))


def test_unbinding_is_audited_and_needs_the_same_right(world: World) -> None:
    policy, alice = made(world), world.actor("alice")
    binding = bind(policy, subject=world.platform, by=alice)
    for name in ("sam", "mia", "noah"):
        with pytest.raises(NotAllowed):
            unbind(binding, by=world.actor(name))
    with pytest.raises(Refused):
        unbind(binding, by=world.actor("charlie"))
    unbind(binding, by=world.actor("lena"))
    assert not Binding.objects.filter(pk=binding.pk).exists()
    event = AuditEvent.objects.filter(organization=world.acme, action="policy.unbound").latest("pk")
    assert (event.object_id, event.before["name"]) == (str(policy.pk), "platform")
    with pytest.raises(Refused, match="not bound any more"):
        unbind(binding, by=alice)


def test_a_keys_own_policy_stays_bound(world: World) -> None:
    set_key_limits(world.key, by=world.actor("mia"), rpm=5)
    with pytest.raises(Refused):
        unbind(Binding.objects.get(api_key=world.key), by=world.actor("alice"))


def test_a_member_of_two_groups_needs_the_right_at_both(world: World) -> None:
    add_member(world.mia, group=world.field, by=world.actor("alice"))
    policy = made(world)
    with pytest.raises(NotAllowed):
        bind(policy, subject=world.mia, by=world.actor("lena"))
    bind(policy, subject=world.mia, by=world.actor("alice"))


def test_the_trail_of_a_node_tells_what_was_bound_there(world: World) -> None:
    alice = world.actor("alice")
    policy = create_policy(world.acme, name="Seen", limits=[LimitSpec("rpm", "minute", 5)], by=alice)
    for subject, node in ((world.platform, world.platform), (world.key, world.gateway), (world.mia, None)):
        bind(policy, subject=subject, by=alice)
        event = AuditEvent.objects.filter(organization=world.acme, action="policy.bound").latest("pk")
        assert event.group == node
