"""What is odd is said where it is saved: a key's limits on its page, and policies, bindings and keys in the API's answers."""

from __future__ import annotations

from html import unescape
from typing import Any

import pytest

from guardrails.policy_selectors import warnings_about_key
from guardrails.services.bindings import bind
from guardrails.services.key_limits import set_key_limits
from guardrails.services.policies import LimitSpec, create_policy
from orgs.services.keys import create_api_key
from tests.actors import World, signed_in
from tests.apis import api

DOLLAR = 10**9
ABOVE = "which is reached first"


def bound(world: World, dollars: int, *, to: Any, name: str, reach: str = "self") -> None:
    """A policy with a budget per month."""
    limits = [LimitSpec("budget", "month", dollars * DOLLAR)]
    bind(
        create_policy(world.acme, name=name, limits=limits, by=world.actor("alice")),
        subject=to,
        by=world.actor("alice"),
        reach=reach,
    )


def key_url(world: World, path: str) -> str:
    return f"/o/{world.acme.slug}/keys/{world.key.pk}/{path}"


def test_a_key_above_its_group_is_saved_and_its_page_says_who_decides(world: World, django_assert_max_num_queries: Any) -> None:
    bound(world, 20, to=world.engineering, name="Engineers")
    client = signed_in(world, "mia")

    saved = client.post(key_url(world, "limits/"), {"monthly_nano_usd": "50", "daily_nano_usd": "60"}, follow=True)

    assert f'hx-get="{key_url(world, "oddities/")}" hx-trigger="load"' in saved.content.decode()
    with django_assert_max_num_queries(12):
        part = unescape(client.get(key_url(world, "oddities/")).content.decode())
    assert "Worth a look" in part
    assert "Mia's key: $50.00 per month is more than “Engineers” allows all of engineering ($20.00 per month), which is" in part
    assert "$60.00 per day is more than $50.00 per month: only the latter can be reached." in part

    client.post(key_url(world, "limits/"), {"monthly_nano_usd": "20"})
    assert client.get(key_url(world, "oddities/")).content.strip() == b""


@pytest.mark.parametrize(
    ("place", "reach", "node"),
    [
        ("root", "self", None),
        ("gateway", "self", "gateway"),
        ("mia", "self", "Mia"),
        ("root", "members", "Mia"),
        ("root", "keys", "Mia's key"),
    ],
)
def test_whatever_applies_above_a_key_is_compared_with_it(world: World, place: str, reach: str, node: str | None) -> None:
    bound(world, 5, to=getattr(world, place), name="Above", reach=reach)
    set_key_limits(world.key, by=world.actor("mia"), monthly_nano_usd=6 * DOLLAR)
    (warning,) = warnings_about_key(world.key, actor=world.actor("mia"))
    assert f"“Above” allows all of {node or world.acme.name} ($5.00 per month)" in warning


@pytest.mark.parametrize("place", ["core", "sales", "noah"])
def test_what_is_not_above_it_is_not(world: World, place: str) -> None:
    bound(world, 5, to=getattr(world, place), name="Elsewhere")
    set_key_limits(world.key, by=world.actor("mia"), monthly_nano_usd=6 * DOLLAR)
    assert warnings_about_key(world.key, actor=world.actor("alice")) == []


def test_a_policy_that_the_viewer_may_not_see_is_not_told(world: World) -> None:
    key, _ = create_api_key(
        world.gateway, name="Assisting", member=world.mia, application=world.assistant, environment="staging", features=["chat"],
        by=world.actor("mia"),
    )  # fmt: skip
    bound(world, 5, to=world.assistant, name="Of the application")
    set_key_limits(key, by=world.actor("mia"), monthly_nano_usd=6 * DOLLAR)
    assert warnings_about_key(key, actor=world.actor("mia")) == []
    assert "Of the application" in warnings_about_key(key, actor=world.actor("sam"))[0]


def test_a_key_without_limits_of_its_own_is_not_odd(world: World) -> None:
    bound(world, 5, to=world.root, name="Above")
    assert warnings_about_key(world.key, actor=world.actor("alice")) == []


# --- by the API -----------------------------------------------------------------------------------
def monthly(dollars: int) -> dict[str, str]:
    return {"kind": "budget", "window": "month", "value": str(dollars * DOLLAR)}


def test_a_policy_is_answered_with_what_is_odd_about_it(world: World) -> None:
    ask = api(world, "alice")
    bound(world, 20, to=world.root, name="Everybody")
    made = ask("post", "/policies", {"name": "Wide", "limits": [monthly(50), {**monthly(0), "window": "year"}]}, status=201)
    assert [warning.partition(":")[0] for warning in made["warnings"]] == [
        "$0.00 per year",
        "$50.00 per month is more than $0.00 per year",
    ]

    subject = {"kind": "group", "id": world.sales.pk}
    binding = ask("post", "/bindings", {"policy_id": made["id"], "subject": subject}, status=201)
    assert any("sales: $50.00 per month is more than “Everybody”" in warning for warning in binding["warnings"])
    assert ask("get", f"/bindings/{binding['id']}") == binding

    changed = ask("patch", f"/policies/{made['id']}", {"limits": [monthly(30)]})
    (warning,) = changed["warnings"]
    assert "$30.00 per month is more than “Everybody” allows all of" in warning
    assert ask("get", f"/policies/{made['id']}") == changed
    assert ask("patch", f"/policies/{made['id']}", {"limits": [monthly(20)]})["warnings"] == []


def test_a_binding_says_what_is_odd_at_its_own_place_alone(world: World) -> None:
    ask = api(world, "alice")
    bound(world, 20, to=world.engineering, name="Engineers")
    wide = ask("post", "/policies", {"name": "Wide", "limits": [monthly(50)]}, status=201)
    made = {
        place: ask(
            "post",
            "/bindings",
            {"policy_id": wide["id"], "subject": {"kind": "group", "id": getattr(world, place).pk}},
            status=201,
        )
        for place in ("platform", "sales")
    }
    assert made["sales"]["warnings"] == []
    assert [ABOVE in warning for warning in made["platform"]["warnings"]] == [True]
    assert ask("get", f"/policies/{wide['id']}")["warnings"] == made["platform"]["warnings"]


def test_a_key_is_answered_with_what_is_odd_about_its_limits(world: World) -> None:
    bound(world, 20, to=world.engineering, name="Engineers")
    ask = api(world, "mia")
    own = {"monthly_nano_usd": str(50 * DOLLAR)}
    made = ask(
        "post", "/keys", {"name": "wide", "group_id": world.gateway.pk, "member_id": world.mia.pk, "limits": own}, status=201
    )["key"]
    (warning,) = made["warnings"]
    assert warning.startswith("wide: $50.00 per month is more than “Engineers”")
    assert ask("get", f"/keys/{made['id']}") == made
    lowered = ask("patch", f"/keys/{made['id']}", {"limits": {"monthly_nano_usd": str(20 * DOLLAR)}})
    assert lowered["warnings"] == []
    assert "warnings" not in ask("get", "/keys")["data"][0]
