"""What applies on a path, for the console: the same choice that is compiled for a call."""

from typing import Any

from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from guardrails import in_force
from guardrails.compiling import Bound, BoundLimit, compiled
from guardrails.models import Binding, Policy
from guardrails.services.bindings import bind
from guardrails.services.key_limits import set_key_limits
from guardrails.services.policies import LimitSpec, create_policy
from guardrails.subjects import counter_of
from orgs.models import ApiKey, Group, User
from tests.actors import World
from tests.guardrails.principals import MIA, PATH

SUBJECTS = ("root", "engineering", "platform", "gateway", "mia", "key")


def policy(world: World, name: str) -> Policy:
    return create_policy(world.acme, name=name, limits=[LimitSpec("rpm", "minute", 5)], by=world.actor("alice"))


def names(world: World) -> list[tuple[str, str]]:
    key = ApiKey.objects.select_related("group__parent__parent__parent__parent", "organization").get(pk=world.key.pk)
    found = in_force.in_force(world.acme, path=key.group.path(), member=world.mia, key=key)
    return [(one.policy.name, counter_of(one.subject)) for one in found]


def test_the_most_specific_comes_first(world: World) -> None:
    alice = world.actor("alice")
    for name in SUBJECTS:
        bind(policy(world, name), subject=getattr(world, name), by=alice)
    bind(policy(world, "beside"), subject=world.sales, by=alice)
    assert [name for name, _ in names(world)] == list(reversed(SUBJECTS))


def test_the_nearest_default_counts_and_ones_own_policy_takes_its_place(world: World) -> None:
    alice = world.actor("alice")
    bind(policy(world, "far"), subject=world.root, reach="members", by=alice)
    bind(policy(world, "near"), subject=world.platform, reach="members", by=alice)
    assert names(world) == [("near", f"m{world.mia.pk}")]
    bind(policy(world, "own"), subject=world.mia, by=alice)
    assert names(world) == [("own", f"m{world.mia.pk}")]


def test_limits_on_a_keys_page_do_not_push_out_the_default(world: World) -> None:
    bind(policy(world, "default"), subject=world.root, reach="keys", by=world.actor("alice"))
    set_key_limits(world.key, by=world.actor("mia"), rpm=5)
    assert [subject for _, subject in names(world)] == [f"k{world.key.pk}"] * 2


def test_reading_costs_the_same_for_many(world: World, django_assert_max_num_queries: Any) -> None:
    for number in range(6):
        bind(policy(world, f"p{number}"), subject=world.root, by=world.actor("alice"))
    path = world.gateway.path()
    with django_assert_max_num_queries(3):
        assert len(in_force.in_force(world.acme, path=path, member=world.mia)) == 6


# --- against the compiler -------------------------------------------------------------------------

made: Any = Group
NODES: list[Group] = [made(pk=node.id, name=node.name, parent_id=1 if node.level else None) for node in PATH]
KEY, MEMBER = ApiKey(pk=MIA.key_id, name="key"), User(pk=MIA.member_id, email="mia@example.test")
ON: dict[str, dict[str, Any]] = {
    **{f"g{node.pk}": {"group": node} for node in NODES},
    "m": {"member": MEMBER},
    "k": {"api_key": KEY},
}
PLACES = st.one_of(
    st.tuples(st.sampled_from(sorted(ON)), st.just("self"), st.just(False)),
    st.tuples(st.just("k"), st.just("self"), st.just(True)),
    st.tuples(st.sampled_from([f"g{node.pk}" for node in NODES]), st.sampled_from(["members", "keys"]), st.just(False)),
)


@given(st.lists(PLACES, max_size=9))
def test_it_chooses_what_the_compiler_chooses(places: list[tuple[str, str, bool]]) -> None:
    bindings = [
        Binding(policy=Policy(pk=number, name=f"p{number}", dedicated=dedicated), reach=reach, **ON[place])
        for number, (place, reach, dedicated) in enumerate(places, 1)
    ]
    shown = [(one.policy.name, counter_of(one.subject)) for one in in_force.placed(bindings, NODES, MEMBER, KEY)]
    limits = compiled(MIA, [as_compiled(one) for one in bindings], generation="a", pool_nano_usd=0, now=timezone.now())
    judged = [(limit.policy, limits.subjects[limit.subject]) for limit in limits.limits if not limit.is_pool]
    assert shown == judged


def as_compiled(binding: Binding) -> Bound:
    return Bound(
        group_id=binding.group_id,
        member_id=binding.member_id,
        api_key_id=binding.api_key_id,
        application_id=None,
        reach=binding.reach,
        policy=binding.policy.name,
        dedicated=binding.policy.dedicated,
        limits=(BoundLimit(id=binding.policy.pk, kind="rpm", window="minute", value=1),),
        rules=(),
    )
