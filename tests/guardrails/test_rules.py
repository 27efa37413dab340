"""Rules along a path against their definition: in every list there is, and in no list of what is blocked."""

from __future__ import annotations

import re
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrails.rules import Approval, Kind, Rule, Rules


def rule(kind: Kind, *entries: str, node: str = "Acme") -> Rule:
    return Rule(kind=kind, entries=entries, level="organization", node=node, policy="policy")


def rules(*found: Rule, approval: Approval | None = None) -> Rules:
    return Rules(rules=found, approval=approval)


def test_where_nothing_is_said_everything_is_allowed() -> None:
    nothing = rules()
    assert nothing.against_model("gpt-5") is None
    assert nothing.against_provider("openai") is None
    assert nothing.against_address("") is None
    assert nothing.against_member(7) is None
    assert not nothing.needs_approval("gpt-5", first_offered_ms=1e15)


@pytest.mark.parametrize("kind", ["models", "blocked_models", "providers", "addresses", "members"])
def test_an_empty_list_restricts_nothing(kind: Kind) -> None:
    empty = rules(rule(kind))
    assert empty.against_model("gpt-5") is None
    assert empty.against_provider("openai") is None
    assert empty.against_address("203.0.113.9") is None
    assert empty.against_member(7) is None


def test_a_model_must_be_in_every_list_and_the_most_specific_that_lacks_it_is_named() -> None:
    key, company = rule("models", "gpt-5", "gpt-4*", node="key"), rule("models", "gpt-4?", "claude-*", node="company")
    both = rules(key, company)
    assert both.against_model("gpt-41") is None
    assert both.against_model("gpt-5") == company
    assert both.against_model("claude-x") == key
    assert both.against_model("o3") == key


def test_what_is_blocked_stays_blocked_whatever_allows_it() -> None:
    blocking = rule("blocked_models", "*-mini", node="company")
    found = rules(rule("models", "gpt-mini", node="key"), blocking)
    assert found.against_model("gpt-mini") == blocking


def test_case_does_not_count() -> None:
    assert rule("models", "GPT-*").names("gpt-5")
    assert rule("models", "gpt-*").names("GPT-5")


def test_providers_intersect() -> None:
    found = rules(rule("providers", "openai", "azure"), rule("providers", "azure", "bedrock"))
    assert [found.against_provider(name) is None for name in ("openai", "azure", "bedrock")] == [False, True, False]


def test_lists_of_members_concern_members_alone() -> None:
    found = rules(rule("members", "7", "8"), rule("members", "8", "9"))
    assert [found.against_member(member) is None for member in (7, 8, 9, None)] == [False, True, False, True]
    assert found.against_member(88) is not None


def test_new_models_need_an_approval() -> None:
    asking = rules(approval=Approval(1000, frozenset({"approved"})))
    assert not asking.needs_approval("old", first_offered_ms=1000)
    assert asking.needs_approval("new", first_offered_ms=1000.5)
    assert not asking.needs_approval("approved", first_offered_ms=2000)


@pytest.mark.parametrize(
    ("address", "entries", "allowed"),
    [
        ("203.0.113.9", ("203.0.113.0/24",), True),
        ("203.0.114.9", ("203.0.113.0/24",), False),
        ("203.0.113.9", ("203.0.113.9",), True),
        ("203.0.113.9", ("203.0.113.77/24",), True),
        ("203.0.113.9", ("2001:db8::/32", "203.0.113.0/24"), True),
        ("2001:db8::1", ("2001:db8::/32",), True),
        ("2001:db9::1", ("2001:db8::/32", "0.0.0.0/0"), False),
        ("203.0.113.9", ("::/0",), False),
        ("::ffff:203.0.113.9", ("203.0.113.0/24",), True),
        ("::ffff:203.0.113.9", ("::ffff:0:0/96",), True),
        ("::ffff:203.0.114.9", ("203.0.113.0/24",), False),
        ("", ("0.0.0.0/0", "::/0"), False),
        ("unknown", ("0.0.0.0/0", "::/0"), False),
        ("203.0.113.9:80", ("0.0.0.0/0",), False),
        ("fe80::1%eth0", ("fe80::/10",), True),
    ],
)
def test_addresses_of_both_families(address: str, entries: tuple[str, ...], allowed: bool) -> None:
    assert (rules(rule("addresses", *entries)).against_address(address) is None) == allowed


# --- against the definition ------------------------------------------------------------------------------

NAMES = ["gpt-5", "gpt-5-mini", "GPT-4o", "claude-x", "o3", "a*b", "gpt"]
ENTRIES = st.sampled_from([*NAMES, "gpt-*", "GPT*", "*", "?3", "*-mini", "claude-?", "nothing"])
KINDS = st.sampled_from(["models", "blocked_models", "providers"])
RULES = st.lists(st.tuples(KINDS, st.lists(ENTRIES, max_size=4)), max_size=6)


def matches(entry: str, name: str) -> bool:
    """The definition: `*` is any characters, `?` is one."""
    pattern = "".join({"*": ".*", "?": "."}.get(letter, re.escape(letter)) for letter in entry)
    return re.fullmatch(pattern, name, re.IGNORECASE | re.DOTALL) is not None


@given(RULES, st.sampled_from(NAMES))
def test_lists_intersect_and_blocks_add_up(found: list[tuple[Kind, list[str]]], name: str) -> None:
    asked = rules(*(rule(kind, *entries) for kind, entries in found))

    def in_all(kind: str) -> bool:
        return all(any(matches(entry, name) for entry in entries) for of, entries in found if of == kind and entries)

    blocked = any(matches(entry, name) for of, entries in found if of == "blocked_models" for entry in entries)
    assert (asked.against_model(name) is None) == (in_all("models") and not blocked)
    assert (asked.against_provider(name) is None) == in_all("providers")


@given(RULES, st.sampled_from(NAMES))
def test_the_rule_that_is_named_is_one_that_refuses_by_itself(found: list[tuple[Kind, list[str]]], name: str) -> None:
    asked = rules(*(rule(kind, *entries) for kind, entries in found))
    against = asked.against_model(name)
    if against is not None:
        assert rules(against).against_model(name) == against
    more = rules(*asked.rules, rule("models", "nothing"))
    assert more.against_model(name) is not None


NETWORKS = st.one_of(
    st.tuples(st.ip_addresses(v=4), st.integers(0, 32)), st.tuples(st.ip_addresses(v=6), st.integers(0, 128))
).map(lambda pair: f"{pair[0]}/{pair[1]}")


@given(st.lists(st.lists(NETWORKS, min_size=1, max_size=3), max_size=3), st.ip_addresses())
def test_an_address_must_be_in_every_list(lists: list[list[str]], address: object) -> None:
    asked = rules(*(rule("addresses", *entries) for entries in lists))
    found = ip_address(str(address))
    same = {found, getattr(found, "ipv4_mapped", None) or found}
    inside = all(any(one in ip_network(entry, strict=False) for entry in entries for one in same) for entries in lists)
    assert (asked.against_address(str(address)) is None) == inside
