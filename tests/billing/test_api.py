"""The credit pool by the API: to whom the console shows it, and to read only."""

from __future__ import annotations

import pytest

from billing import credits
from orgs.permissions import Permission, RoleName
from orgs.services.members import grant_role
from orgs.services.roles import create_role
from orgs.tokens import SCOPES
from tests.actors import World
from tests.apis import api, code
from tests.ledger_rows import call_row, insert_calls

DOLLAR = 10**9


def test_what_is_left_and_what_moved(world: World) -> None:
    credits.top_up(world.acme, amount_nano_usd=50 * DOLLAR, reference="invoice 1", by=world.alice, note="first")
    credits.refund(world.acme, amount_nano_usd=5 * DOLLAR, reference="back 1")
    credits.top_up(world.other, amount_nano_usd=DOLLAR, reference="elsewhere")
    row = call_row(world.key)
    insert_calls(row)
    ask, spent = api(world, "alice", "credit:read"), row.charged_nano_usd
    assert ask("get", "/credit") == {
        "funded_nano_usd": str(45 * DOLLAR),
        "spent_nano_usd": str(spent),
        "available_nano_usd": str(45 * DOLLAR - spent),
    }
    moved = ask("get", "/credit/movements")["data"]
    assert [(one["kind"], one["amount_nano_usd"], one["reference"]) for one in moved] == [
        ("refund", str(-5 * DOLLAR), "back 1"),
        ("top_up", str(50 * DOLLAR), "invoice 1"),
    ]
    assert (moved[1]["created_by_id"], moved[1]["note"]) == (world.alice.pk, "first")
    assert ask("get", "/credit/movements?kind=top_up&limit=1")["data"] == moved[1:]
    assert "credit:write" not in SCOPES


@pytest.mark.parametrize(
    ("permission", "node", "status"),
    [
        (Permission.VIEW_BILLING, "root", 200),
        (Permission.VIEW_BILLING, "sales", 403),
        (Permission.TOP_UP, "sales", 200),
        (Permission.VIEW_USAGE, "root", 403),
    ],
)
def test_it_is_shown_where_the_overview_shows_it(world: World, permission: Permission, node: str, status: int) -> None:
    alice, place = world.actor("alice"), world.group(node)
    grant_role(world.noah, role=create_role(place, name="Books", permissions=[permission], by=alice), group=place, by=alice)
    answer = api(world, "noah")("get", "/credit", status=status)
    assert status == 200 or code(answer) == "permission_missing"


def test_finance_at_the_root_reads_it(world: World) -> None:
    grant_role(world.noah, role=RoleName.FINANCE, group=world.root, by=world.actor("alice"))
    assert api(world, "noah")("get", "/credit")["available_nano_usd"] == "0"
