"""What a file says of an organisation: one structure for each kind of thing. An export fills all of a structure; where a file
that is applied leaves a field out, it is UNSET and what stands there stays. A field that is a list or a mapping is given whole.

Groups are known by their path, "Engineering / Platform", "/" being the organisation itself, roles and policies by their name, all
in large or small letters; applications by their address, which is made of the name where none is given; people by their address.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Annotated, ClassVar, Literal

import msgspec
from msgspec import UNSET, UnsetType

ROOT = "/"

Text = str | UnsetType
Person = str | None | UnsetType
Number = int | UnsetType
Flag = bool | UnsetType
Moment = Annotated[datetime, msgspec.Meta(tz=True)]


class Declared(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    # Fields that say which thing it is. What they name never changes.
    NAMED_BY: ClassVar[tuple[str, ...]] = ()


class OrganizationDeclaration(Declared):
    """Its settings, and what is said of its root group."""

    NAMED_BY = ("slug",)

    slug: str
    name: Text = UNSET
    time_zone: Text = UNSET
    week_start: Number = UNSET
    fiscal_month: Number = UNSET
    reset_hour: Number = UNSET
    attribution_required: Flag = UNSET
    approval_since: Moment | UnsetType | None = UNSET
    admit_unguarded: Flag = UNSET
    content_retention_hours: Number = UNSET
    content_sample_percent: Number = UNSET
    zdr_only: Flag = UNSET
    second_factor_required: Flag = UNSET
    kind: Text = UNSET
    cost_center: Text = UNSET
    owner: Person = UNSET


class GroupDeclaration(Declared):
    NAMED_BY = ("children",)

    name: str
    kind: Text = UNSET
    cost_center: Text = UNSET
    owner: Person = UNSET
    children: list[GroupDeclaration] = []


class RoleDeclaration(Declared):
    name: str
    group: Text = UNSET
    description: Text = UNSET
    permissions: list[str] | UnsetType = UNSET


class ApplicationDeclaration(Declared):
    NAMED_BY = ("slug",)

    name: str
    slug: Text = UNSET
    group: Text = UNSET
    features: list[str] | UnsetType = UNSET
    environments: list[str] | UnsetType = UNSET
    cost_center: Text = UNSET
    owner: Person = UNSET


class BudgetDeclaration(Declared):
    usd: Decimal
    counts_byok: bool = False


class BudgetsDeclaration(Declared):
    day: BudgetDeclaration | UnsetType = UNSET
    week: BudgetDeclaration | UnsetType = UNSET
    month: BudgetDeclaration | UnsetType = UNSET
    quarter: BudgetDeclaration | UnsetType = UNSET
    year: BudgetDeclaration | UnsetType = UNSET
    total: BudgetDeclaration | UnsetType = UNSET


class LimitsDeclaration(Declared):
    budget: BudgetsDeclaration | UnsetType = UNSET
    rpm: Number = UNSET
    tpm: Number = UNSET
    rpd: Number = UNSET
    parallel: Number = UNSET
    max_tokens: Number = UNSET
    keys: Number = UNSET
    seats: Number = UNSET


class RulesDeclaration(Declared):
    """An empty list restricts nothing."""

    models: list[str] = []
    blocked_models: list[str] = []
    providers: list[str] = []
    addresses: list[str] = []
    members: list[str] = []


class PolicyDeclaration(Declared):
    name: str
    description: Text = UNSET
    limits: LimitsDeclaration | UnsetType = UNSET
    rules: RulesDeclaration | UnsetType = UNSET
    clamp: bool | UnsetType | None = UNSET
    clamp_least_tokens: int | UnsetType | None = UNSET
    observed_holds: bool | UnsetType | None = UNSET
    degrade_percent: int | UnsetType | None = UNSET
    degrade_model: Text = UNSET


class BindingDeclaration(Declared):
    """A policy on one group, member, application or key (by its public id)."""

    NAMED_BY = ("policy", "group", "member", "application", "key", "reach")

    policy: str
    group: str = ""
    member: str = ""
    application: str = ""
    key: str = ""
    reach: Literal["self", "members", "keys"] = "self"


class Declaration(Declared):
    """A file. Of a section that it does not have, nothing is said at all."""

    organization: OrganizationDeclaration
    groups: list[GroupDeclaration] | UnsetType = UNSET
    roles: list[RoleDeclaration] | UnsetType = UNSET
    applications: list[ApplicationDeclaration] | UnsetType = UNSET
    policies: list[PolicyDeclaration] | UnsetType = UNSET
    bindings: list[BindingDeclaration] | UnsetType = UNSET
