"""The organisation that is tortured: a tree of four levels, members, an application, keys, and a budget wherever one can be.

Everything that changes it goes through the services and their frame, as the console does. Import it after django.setup().

    Torture
    ├── north (1)
    │   └── north-a (2)  olga, application "assistant" with a service key
    │       └── north-b (3)
    │           └── north-c (4)  mia: one key of her own, one for the assistant
    └── south (1)
        └── south-a (2)  noah: two keys, one that is switched off and on and replaced
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field
from typing import Any, ClassVar
from uuid import UUID

from django.db import connection, transaction

from billing import credits, prices
from billing.pricing import Rates
from gateway_project.lib.money import MILLION, NANO, cost_of
from guardrails.models import Binding, Limit, Policy
from orgs import epoch
from orgs.actor import Actor
from orgs.models import ApiKey, Application, Group, Organization, User
from orgs.services.applications import create_application
from orgs.services.changes import changing
from orgs.services.groups import create_group
from orgs.services.keys import create_api_key, disable_key, enable_key, revoke_key
from orgs.services.members import add_member
from orgs.services.organizations import create_organization
from proxy.models import Deployment, Model, Provider
from tests.torture.history import Budget, Closing, Row, Window

# $0.10 for a thousand tokens of output. The second model charges a little for input as well, which can only be estimated.
OUTPUT_ONLY, WITH_INPUT = "torture-output", "torture-input"
MODELS = {OUTPUT_ONLY: Rates(input=0, output=100 * NANO), WITH_INPUT: Rates(input=1 * NANO, output=100 * NANO)}
TIMEOUTS = {"connect": 2, "first_byte": 1.5, "idle": 1.5, "total": 6}
MAX_OUTPUT = 4096
POOL = "pool"
VICTIM = "victim"


def cost(model: str, *, input_tokens: int, output_tokens: int) -> int:
    """By hand: tokens × price, each part rounded half up."""
    rates = MODELS[model]
    return cost_of(input_tokens, rates.input) + cost_of(output_tokens, rates.output)


def worst(model: str, *, max_tokens: int, bytes_sent: int) -> int:
    """An upper bound on what may be held: no text has more tokens than bytes, and three parts may round up."""
    rates = MODELS[model]
    held_for_input = (bytes_sent * rates.input + 2 * MILLION) // MILLION if rates.input else 0
    return held_for_input + cost_of(max_tokens, rates.output)


def declare_models(upstream_url: str) -> None:
    with transaction.atomic():
        values = {"kind": "openai-compatible", "base_url": upstream_url}
        provider, _ = Provider.objects.update_or_create(name="torture", defaults=values)
        for name, rates in MODELS.items():
            described = {"max_output_tokens": MAX_OUTPUT, "context_window": 128_000, "timeout": TIMEOUTS}
            model, _ = Model.objects.get_or_create(name=name, defaults=described)
            Deployment.objects.get_or_create(model=model, provider=provider, upstream_model=name)
            prices.declare(f"model:{name}", rates=rates, source="torture")
        epoch.catalogue_changing(list(Organization.objects.values_list("id", flat=True)))


@dataclass(slots=True)
class Key:
    """`subjects`: everything a call of this key counts on."""

    row: ApiKey
    text: str
    subjects: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"k{self.row.pk}"


@dataclass
class Company:
    organization: Organization
    owner: User
    groups: dict[str, Group]
    members: dict[str, User]
    assistant: Application
    keys: dict[str, Key] = field(default_factory=dict)
    budgets: list[Budget] = field(default_factory=list)
    closings: list[Closing] = field(default_factory=list)
    limits: dict[int, int] = field(default_factory=dict)  # id() of a budget → primary key of its Limit

    TREE: ClassVar[dict[str, str]] = {
        "north": "root", "north-a": "north", "north-b": "north-a", "north-c": "north-b", "south": "root", "south-a": "south",
    }  # fmt: skip
    HOMES: ClassVar[dict[str, str]] = {"mia": "north-c", "olga": "north-a", "noah": "south-a"}

    @property
    def owner_acts(self) -> Actor:
        return Actor.load(self.owner, organization=self.organization)

    def add_key(self, name: str, *, home: str, member: str | None = None, for_assistant: bool = False) -> Key:
        group = Group.objects.get(pk=self.groups[home].pk)
        bound: dict[str, Any] = {"application": self.assistant, "environment": "production"} if for_assistant else {}
        row, text = create_api_key(group, name=name, by=self.owner_acts, member=self.members[member] if member else None, **bound)
        path = [f"g{node.pk}" if node.level else "org" for node in group.path()]
        own = [f"k{row.pk}", *([f"m{row.member_id}"] if row.member_id else []), *([f"a{self.assistant.pk}"] if bound else [])]
        self.keys[name] = Key(row, text, (*path, *own, POOL))
        return self.keys[name]

    def add_budget(self, node: str, subject: str, value: int, *, window: Window, **bound: Any) -> Budget:
        """`bound` names the row that the policy is bound to."""
        budget = Budget(node, subject, window)
        self.budgets.append(budget)
        self._change(
            budget, value, lambda: self.limits.update({id(budget): self._bind(f"{node} {window}", value, window, bound)})
        )
        return budget

    def add_rate(self, name: str, per_minute: int) -> None:
        with changing(self.organization):
            self._bind(f"{name} rate", per_minute, "minute", {"api_key": self.keys[name].row}, kind="rpm")

    def set_budget(self, budget: Budget, value: int) -> None:
        """Raised or lowered. The pool is topped up by what is missing."""
        if budget.subject == POOL:
            self.top_up(budget, max(0, value - budget.versions[-1].value))
            return
        self._change(budget, value, lambda: Limit.objects.filter(pk=self.limits[id(budget)]).update(value=value))

    def top_up(self, pool: Budget, amount: int) -> None:
        if not amount:
            return
        value = (pool.versions[-1].value if pool.versions else 0) + amount
        pool.begin(value, time.time())
        credits.top_up(self.organization, amount_nano_usd=amount, reference=secrets.token_hex(8), by=self.owner)
        pool.done(time.time())

    def switch_on(self, name: str) -> None:
        key = self.keys[name]
        for closing in self.closings:
            if closing.key == key.name:
                closing.reopened = min(closing.reopened, time.time())
        enable_key(key.row, by=self.owner_acts)

    def switch_off(self, name: str) -> Key:
        disable_key(self.keys[name].row, by=self.owner_acts)
        return self._closed(self.keys[name])

    def replace(self, name: str) -> Key:
        """Makes a key like it, and revokes it: in this order there is always one, whatever breaks in between → the old one."""
        old = self.keys[name]
        self.add_key(name, home=self.HOMES["noah"], member="noah")
        revoke_key(old.row, by=self.owner_acts)
        return self._closed(old)

    def _closed(self, key: Key) -> Key:
        self.closings.append(Closing(key.name, time.time()))
        return key

    def _bind(self, name: str, value: int, window: str, bound: dict[str, Any], *, kind: str = "budget") -> int:
        policy = Policy.objects.create(organization=self.organization, name=name)
        limit = Limit.objects.create(policy=policy, kind=kind, window=window, value=value)
        Binding.objects.create(policy=policy, organization=self.organization, **bound)
        return int(limit.pk)

    def _change(self, budget: Budget, value: int, change: Any) -> None:
        budget.begin(value, time.time())
        with changing(self.organization):
            change()
        budget.done(time.time())

    def rows(self) -> list[Row]:
        """The ledger, by SQL of our own."""
        with connection.cursor() as cursor:
            cursor.execute(ROWS_SQL, (self.organization.pk,))
            return [_row(*found) for found in cursor.fetchall()]


ROWS_SQL = """
SELECT call_id, extract(epoch FROM admitted_at)::float8, extract(epoch FROM recorded_at)::float8, status, charged_nano_usd,
       reserved_nano_usd, requested_model, group1_id, group2_id, group3_id, group4_id, member_id, api_key_id, application_id
FROM billing_usagerecord WHERE organization_id = %s ORDER BY recorded_at
"""


def _row(
    call_id: UUID, admitted: float, recorded: float, status: str, charged: int, reserved: int, model: str, *ids: int | None
) -> Row:
    subjects = ["org", *(f"{letter}{pk}" for letter, pk in zip("ggggmka", ids, strict=True) if pk is not None), POOL]
    return Row(
        str(call_id), f"k{ids[5]}", tuple(subjects), admitted, recorded, status, charged, reserved, estimated=model == WITH_INPUT
    )


def build(*, time_zone: str) -> Company:
    """Budgets begin wide; whoever drives the run tightens them."""
    owner = User.objects.create_user(f"owner.{secrets.token_hex(4)}@example.test", name="Owner")
    organization = create_organization("Torture", owner=owner)
    # A zone of its own making is in no list of the services; workers find it where the environment says.
    Organization.objects.filter(pk=organization.pk).update(time_zone=time_zone)
    actor = Actor.load(owner, organization=organization)
    groups = {"root": organization.root}
    for name, parent in Company.TREE.items():
        groups[name] = create_group(Group.objects.get(pk=groups[parent].pk), name=name, by=actor)
    members = {}
    for name, home in Company.HOMES.items():
        members[name] = User.objects.create_user(f"{name}.{secrets.token_hex(4)}@example.test", name=name.title())
        add_member(members[name], group=Group.objects.get(pk=groups[home].pk), by=actor)
    assistant = create_application(
        Group.objects.get(pk=groups["north-a"].pk), name="assistant", features=["chat"], environments=["production"], by=actor
    )
    company = Company(organization, owner, groups, members, assistant)
    _add_keys(company)
    _add_budgets(company)
    return company


def _add_keys(company: Company) -> None:
    company.add_key("mia-own", home="north-c", member="mia")
    company.add_key("mia-assistant", home="north-c", member="mia", for_assistant=True)
    company.add_key("olga-own", home="north-a", member="olga")
    company.add_key("service", home="north-a", for_assistant=True)
    company.add_key("noah-own", home="south-a", member="noah")
    company.add_key("noah-slow", home="south-a", member="noah")
    company.add_key(VICTIM, home="south-a", member="noah")


def _add_budgets(company: Company) -> None:
    wide = 1_000 * NANO
    groups, members, keys = company.groups, company.members, company.keys
    pool = Budget("credit pool", POOL, "total")
    company.budgets.append(pool)
    company.top_up(pool, wide)
    company.add_budget(company.organization.name, "org", wide, window="day", group=groups["root"])
    for name, window in (("north", "total"), ("north-a", "day"), ("north-b", "month"), ("north-c", "day"), ("south", "day")):
        company.add_budget(name, f"g{groups[name].pk}", wide, window=window, group=groups[name])  # type: ignore[arg-type]
    for name, window in (("mia", "total"), ("noah", "day")):
        company.add_budget(name.title(), f"m{members[name].pk}", wide, window=window, member=members[name])  # type: ignore[arg-type]
    for name, window in (("mia-own", "day"), ("olga-own", "total"), ("noah-own", "month")):
        company.add_budget(name, keys[name].name, wide, window=window, api_key=keys[name].row)  # type: ignore[arg-type]
    company.add_budget("assistant", f"a{company.assistant.pk}", wide, window="total", application=company.assistant)
    company.add_rate("noah-slow", 60)


def recorded_ids(organization: Organization) -> set[str]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT call_id::text FROM billing_usagerecord WHERE organization_id = %s", (organization.pk,))
        return {call_id for (call_id,) in cursor.fetchall()}
