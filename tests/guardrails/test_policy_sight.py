"""What of a policy's page is out of sight: exceptions, history and oddities of those beside the viewer."""

from datetime import timedelta

from django.utils import timezone

from guardrails.models import Policy
from guardrails.services.bindings import bind
from guardrails.services.overrides import add_override, end_override
from guardrails.services.policies import LimitSpec
from guardrails.subjects import Subject
from orgs.permissions import RoleName
from orgs.services.keys import create_api_key
from orgs.services.members import grant_role
from tests.actors import World, signed_in
from tests.guardrails.test_policy_pages import CENT, DOLLAR, made, shown, url


def everybodys(world: World) -> Policy:
    """Bound to the organisation and to both divisions, with an exception on either side."""
    policy = made(world, "Everybody", "root", "engineering")
    noahs_key = create_api_key(world.field, name="Noah's key", member=world.noah, by=world.actor("noah"))[0]
    until = timezone.now() + timedelta(days=1)
    subjects: tuple[Subject, ...] = (world.sales, world.noah, noahs_key, world.mia, world.key, world.assistant)
    for subject in subjects:
        bind(policy, subject=subject, by=world.actor("alice"))
    for number, subject in enumerate(subjects, start=1):
        add_override(policy.limits.get(), subject=subject, amount=number * CENT, until=until, by=world.actor("alice"))
    return policy


OURS = ["Mia", "Mia's key", "Assistant"]


def test_exceptions_of_siblings_are_not_shown(world: World) -> None:
    policy = everybodys(world)
    for name, seen in (("alice", ["sales", "Noah", "Noah's key", *OURS]), ("lena", OURS), ("sam", OURS)):
        page = signed_in(world, name).get(url(world, f"{policy.pk}/"))
        assert [row.subject for row in page.context["overrides"]] == seen
        assert ("Noah" in shown(page), "sales" in shown(page)) == (name == "alice",) * 2


def test_the_history_leaves_out_what_happened_to_siblings(world: World) -> None:
    policy = everybodys(world)
    whole = [event.what for event in signed_in(world, "alice").get(url(world, f"{policy.pk}/history/")).context["events"]]
    page = signed_in(world, "lena").get(url(world, f"{policy.pk}/history/"))
    cut = [event.what.partition(":")[0] for event in page.context["events"]]
    assert cut == [*reversed(OURS), *reversed(OURS), "engineering", world.root.name, ""]
    assert "Noah" not in shown(page)
    assert "sales" not in shown(page)
    assert any("Noah" in what for what in whole)
    assert any(what.startswith("sales:") for what in whole)


def test_what_happened_to_siblings_does_not_push_ones_own_out(world: World) -> None:
    policy = made(world, "Everybody", "root", "mia", "sales")
    until = timezone.now() + timedelta(days=1)
    for _ in range(14):
        end_override(
            add_override(policy.limits.get(), subject=world.sales, amount=CENT, until=until, by=world.actor("alice")),
            by=world.actor("alice"),
        )
    found = signed_in(world, "lena").get(url(world, f"{policy.pk}/history/")).context["events"]
    assert [event.what for event in found] == ["Mia", world.root.name, ""]


def test_the_history_is_for_those_who_may_read_audit_trails(world: World) -> None:
    policy = everybodys(world)
    for person, role in (("noah", RoleName.FINANCE), ("mia", RoleName.AUDITOR)):
        grant_role(getattr(world, person), role=role, group=world.root, by=world.actor("alice"))
    for name, may in (("noah", False), ("mia", True)):
        client = signed_in(world, name)
        assert ("policy-history" in shown(client.get(url(world, f"{policy.pk}/")))) == may
        assert client.get(url(world, f"{policy.pk}/history/")).status_code == (200 if may else 403)


def test_who_sees_usage_everywhere_but_audits_a_part_reads_the_history_of_that_part(world: World) -> None:
    policy = everybodys(world)
    grant_role(world.lena, role=RoleName.FINANCE, group=world.root, by=world.actor("alice"))
    client = signed_in(world, "lena")
    assert "Noah" in shown(client.get(url(world, f"{policy.pk}/")))
    assert "Noah" not in shown(client.get(url(world, f"{policy.pk}/history/")))


def test_what_is_odd_beside_or_below_siblings_is_not_said(world: World) -> None:
    policy = made(world, "Everybody", "root", "field", "gateway")
    made(world, "Secret", "sales", limits=[LimitSpec("budget", "month", CENT)])
    made(world, "Below", "field", limits=[LimitSpec("budget", "month", 2 * DOLLAR)])
    made(world, "Ours", "platform", limits=[LimitSpec("budget", "month", CENT)])
    page = {name: shown(signed_in(world, name).get(url(world, f"{policy.pk}/oddities/"))) for name in ("alice", "lena")}
    for words in ("Secret", "sales", "field"):
        assert words in page["alice"]
        assert words not in page["lena"]
    assert "“Ours” allows all of platform" in page["lena"]
