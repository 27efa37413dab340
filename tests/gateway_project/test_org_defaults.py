"""`manage.py org apply` says which defaults a new binding takes the place of, and then they no longer apply."""

from __future__ import annotations

import io
import json
from contextlib import suppress
from pathlib import Path

import pytest
from django.core.management import call_command

from guardrails.in_force import in_force
from guardrails.models import Policy
from guardrails.services.bindings import bind
from guardrails.services.key_limits import set_key_limits
from guardrails.services.policies import LimitSpec, create_policy
from orgs.models import Group, User
from orgs.services.members import add_member
from tests.actors import World

pytestmark = pytest.mark.usefixtures("empty_catalogue")


def made(world: World, name: str) -> Policy:
    return create_policy(world.acme, name=name, limits=[LimitSpec("budget", "month", 10**10)], by=world.actor("alice"))


def default(world: World, name: str, group: Group, *, reach: str = "members") -> Policy:
    policy = made(world, name)
    bind(policy, subject=group, reach=reach, by=world.actor("alice"))
    return policy


def lines(world: World, folder: Path, bindings: str, *options: str) -> list[str]:
    """Those of bindings. `bindings` with names of the world in place of addresses and ids."""
    named = {name: getattr(world, name).email for name in ("mia", "noah")} | {"key": world.key.public_id}
    text = (
        f"organization: {{slug: {world.acme.slug}}}\npolicies: [{{name: Own}}, {{name: Second}}]\nbindings: [{bindings % named}]"
    )
    (folder / "acme.yaml").write_text(text)
    out = io.StringIO()
    with suppress(SystemExit):
        call_command("org", "apply", folder / "acme.yaml", *options, stdout=out)
    found = [line for line in out.getvalue().splitlines() if line.startswith("binding") and "not in the file" not in line]
    return [line.partition(": created")[2] for line in found]


def governing(world: World, member: User, *, group: Group) -> set[str]:
    return {one.policy.name for one in in_force(world.acme, path=group.path(), member=member)}


@pytest.mark.parametrize("options", [(), ("--dry-run",)])
def test_a_first_policy_of_a_members_own_says_which_default_it_takes_away(
    world: World, tmp_path: Path, options: tuple[str, ...]
) -> None:
    default(world, "New colleagues", world.root)
    told = lines(world, tmp_path, "{policy: Own, member: %(mia)s}, {policy: Second, member: %(mia)s}", *options)
    assert told == [f"; “New colleagues” no longer applies to {world.mia.email}", ""]
    now = {"New colleagues"} if options else {"Own", "Second"}
    assert governing(world, world.mia, group=world.gateway) == now


def test_only_the_nearest_groups_defaults_are_lost_and_all_of_them(world: World, tmp_path: Path) -> None:
    default(world, "Far", world.root)
    default(world, "Near", world.platform)
    default(world, "Nearer", world.platform)
    default(world, "For keys", world.platform, reach="keys")
    assert lines(world, tmp_path, "{policy: Own, member: %(mia)s}") == [
        f"; “Near” and “Nearer” no longer apply to {world.mia.email}"
    ]
    assert governing(world, world.mia, group=world.gateway) == {"Own"}


def test_a_member_of_two_groups_loses_the_defaults_of_both(world: World, tmp_path: Path) -> None:
    add_member(world.mia, group=world.field, by=world.actor("alice"))
    default(world, "Here", world.gateway)
    default(world, "There", world.sales)
    [told] = lines(world, tmp_path, "{policy: Own, member: %(mia)s}")
    assert told == f"; “Here” and “There” no longer apply to {world.mia.email}"


def test_a_first_policy_of_a_keys_own_says_which_default_it_takes_away(world: World, tmp_path: Path) -> None:
    """The limits on its own page do not keep a default from it."""
    set_key_limits(world.key, rpm=5, by=world.actor("mia"))
    default(world, "Keys", world.engineering, reach="keys")
    told = lines(world, tmp_path, "{policy: Own, key: %(key)s}, {policy: Second, key: %(key)s}")
    assert told == [f"; “Keys” no longer applies to {world.key.public_id}", ""]


def test_a_first_default_of_a_group_takes_those_of_a_group_above_from_all_below(world: World, tmp_path: Path) -> None:
    default(world, "All", world.root)
    default(world, "All keys", world.root, reach="keys")
    told = lines(
        world,
        tmp_path,
        "{policy: Own, group: engineering, reach: members}, {policy: Second, group: engineering, reach: members},"
        " {policy: Own, group: engineering, reach: keys}, {policy: Own, group: sales}",
    )
    assert sorted(told) == [
        "",
        "",
        "; “All keys” no longer applies to the keys below engineering",
        "; “All” no longer applies to the members below engineering",
    ]
    assert governing(world, world.mia, group=world.gateway) == {"Own", "Second"}
    assert "All" in governing(world, world.noah, group=world.sales)


def test_nothing_is_said_where_nothing_is_lost(world: World, tmp_path: Path) -> None:
    shared = default(world, "All", world.root)
    Policy.objects.filter(pk=shared.pk).update(name="Second")
    default(world, "Elsewhere", world.sales)
    made_by_file = "{policy: Own, group: engineering / platform, reach: members}"
    told = lines(world, tmp_path, f"{made_by_file}, {{policy: Own, application: assistant}}, {{policy: Second, member: %(mia)s}}")
    # Of what the file itself binds nobody has had anything yet; of the same policy nothing changes.
    assert told.count("") == 2
    assert [one for one in told if one] == ["; “Second” no longer applies to the members below engineering / platform"]


@pytest.mark.parametrize("why", ["own", "nearer", "nobody"])
def test_of_a_group_below_which_nobody_had_the_default_nothing_is_said(world: World, tmp_path: Path, why: str) -> None:
    default(world, "All", world.root)
    place = "engineering / platform / gateway / core" if why == "nobody" else "sales"
    if why == "own":
        bind(made(world, "His"), subject=world.noah, by=world.actor("alice"))
    if why == "nearer":
        default(world, "Nearer", world.field)
    assert lines(world, tmp_path, f"{{policy: Own, group: {place}, reach: members}}") == [""]


def test_scripts_get_it_as_a_note(world: World, tmp_path: Path) -> None:
    default(world, "New colleagues", world.root)
    path, out = tmp_path / "acme.yaml", io.StringIO()
    binding = f"{{policy: Own, member: {world.mia.email}}}"
    path.write_text(f"organization: {{slug: {world.acme.slug}}}\npolicies: [{{name: Own}}]\nbindings: [{binding}]")
    call_command("org", "apply", path, "--json", stdout=out)
    notes = {change["name"]: change["note"] for change in json.loads(out.getvalue())["changes"] if change["note"]}
    assert notes == {f"Own on member {world.mia.email}": f"“New colleagues” no longer applies to {world.mia.email}"}
