"""What tests of simulations share: a period of calls of Mia and Noah, and a form as it is sent."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from orgs.models import ApiKey
from orgs.services.keys import create_api_key
from proxy import simulation_services as services
from proxy.models import Simulation
from proxy.simulating import running, spans
from proxy.simulating.proposal import Limit, Rule, Target
from proxy.simulation_services import Wanted
from tests.actors import World
from tests.ledger_rows import call_row, insert_calls

DOLLAR = 10**9
NOON = datetime(2026, 11, 3, 12, tzinfo=UTC)
NOVEMBER = spans.Span(datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC))


def made_calls(key: ApiKey, *charged: int, at: datetime = NOON, **fields: Any) -> list[str]:
    """A call a minute from `at` on, costing so many dollars → their ids."""
    rows = []
    for minute, dollars in enumerate(charged):
        rows.append(call_row(key, at=datetime.fromtimestamp(at.timestamp() + 60 * minute, tz=UTC), **fields))
        rows[-1].charged_nano_usd = rows[-1].list_nano_usd = dollars * DOLLAR
    return [str(call_id) for call_id in insert_calls(*rows)]


def noahs_key(world: World) -> ApiKey:
    return create_api_key(world.field, name="Noah's key", member=world.noah, by=world.actor("noah"))[0]


def budget(dollars: int, window: Any = "month") -> Limit:
    return Limit("budget", window, dollars * DOLLAR)


def wanted(world: World, *limits: Limit, rules: tuple[Rule, ...] = (), targets: tuple[Target, ...] = (), **fields: Any) -> Wanted:
    """On the organisation in November, unless said otherwise."""
    chosen = targets or (Target("group", world.root.pk),)
    return Wanted("Trial", None, limits, rules, chosen, Simulation.Span.CUSTOM, NOVEMBER)._replace(**fields)


def simulated(asked: Wanted, *, by: Any) -> Simulation:
    """Asked for and run here, as the worker would."""
    made = services.start(asked, by=by)
    running.run(made.pk, number=1)
    made.refresh_from_db()
    return made


def typed(world: World, **fields: Any) -> dict[str, Any]:
    """The form of a new simulation: November, the organisation, a budget of $5 per month."""
    return {
        "source": "typed", "budget_month": "5", "group": [world.root.pk], "span": "custom",
        "first": "2026-11-01", "last": "2026-11-19", **fields,
    }  # fmt: skip
