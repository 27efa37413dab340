"""The demo organisation as it is declared: a fictional health company, its people, applications, keys and limits.

Only names and figures stand here; `organization` makes them through the services, `workloads` says who calls what.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from types import MappingProxyType
from typing import NamedTuple

from gateway_project.lib.money import parse_usd
from guardrails.selectors import NO_LIMITS, KeyLimits
from guardrails.services.policies import LimitSpec
from orgs.permissions import Permission, RoleName
from proxy.canonical.preset import Parameters

NAME = "Northwind Health"
TIME_ZONE = "Europe/Berlin"
# It had people and keys before the calls of its past, which go back for a month.
AGE = timedelta(days=45)
TOP_UP_NANO_USD = parse_usd("5000")
QUICKSTART = "Quickstart"
# What `auto` chooses from, weakest first, and what savings are told against.
AUTO_CANDIDATES = ("gpt-5-mini", "claude-sonnet-5", "claude-opus-5")
BASELINE = "claude-opus-5"
# Name for programs → model.
ALIASES = {"our-best": "claude-opus-5"}


class Node(NamedTuple):
    """`parent` "" stands for the root."""

    name: str
    parent: str
    kind: str


class Person(NamedTuple):
    """Belongs to `group` and holds `role` there; None: a member and nothing more."""

    name: str
    group: str
    role: RoleName | None = None
    title: str = "Member"

    @property
    def email(self) -> str:
        """example.com is reserved (RFC 2606): these addresses belong to nobody."""
        return f"{self.name.lower().replace(' ', '.')}@example.com"


class OwnRole(NamedTuple):
    """A role of the company's own: made at a group, and held by people at the groups they belong to."""

    name: str
    group: str
    permissions: tuple[Permission, ...]
    about: str
    holders: tuple[str, ...] = ()


class Invite(NamedTuple):
    """Somebody who has not come yet; without an address a link for `uses` people."""

    group: str
    name: str = ""
    role: RoleName | None = None
    uses: int = 1
    days: int = 30

    @property
    def email(self) -> str:
        return f"{self.name.lower().replace(' ', '.')}@example.com" if self.name else ""


class App(NamedTuple):
    name: str
    group: str
    features: tuple[str, ...]
    environments: tuple[str, ...] = ("production", "staging")


class Key(NamedTuple):
    """A key without a member is a service key of its application, at home in the application's group."""

    name: str
    group: str
    member: str = ""
    application: str = ""
    environment: str = ""
    features: tuple[str, ...] = ()
    limits: KeyLimits = NO_LIMITS
    disabled: bool = False


class Rule(NamedTuple):
    """A policy and whom it binds."""

    name: str
    limits: tuple[LimitSpec, ...]
    groups: tuple[str, ...] = ()
    members: tuple[str, ...] = ()
    applications: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    # Defaults for the members, and for the keys, below these groups.
    default_members: tuple[str, ...] = ()
    default_keys: tuple[str, ...] = ()
    about: str = ""
    lists: Mapping[str, tuple[str, ...]] = MappingProxyType({})
    degrade_percent: int | None = None
    degrade_model: str = ""


class Shared(NamedTuple):
    """A preset: a way of asking that worked for one team and that others below `group` call by its name."""

    name: str
    group: str
    model: str
    about: str
    system: str
    parameters: Parameters = Parameters()


def budget(usd: str, window: str) -> LimitSpec:
    return LimitSpec("budget", window, parse_usd(usd))


PRESETS = (
    Shared(
        "plain-words",
        "Clinical Products",
        "claude-sonnet-5",
        "For patients: short, kind, no jargon.",
        "Answer in plain words that a worried patient understands. At most five short sentences. "
        "Name no diagnosis; say when a doctor should be seen.",
        Parameters(temperature=0.3, max_tokens=400),
    ),
    Shared(
        "code-review",
        "Technology",
        "claude-sonnet-5",
        "Findings with file and line, worst first.",
        "Review the change. List faults only, worst first, each with file, line and what goes wrong. No praise, no summary.",
        Parameters(temperature=0.0),
    ),
)

# Parents come before their children.
NODES = (
    Node("Clinical Products", "", "division"),
    Node("Patient Experience", "Clinical Products", "department"),
    Node("Mobile App", "Patient Experience", "team"),
    Node("Symptom Checker", "Mobile App", "project"),
    Node("Visit Summaries", "Mobile App", "project"),
    Node("Contact Centre", "Patient Experience", "team"),
    Node("Decision Support", "Clinical Products", "department"),
    Node("Guidelines", "Decision Support", "team"),
    Node("Technology", "", "division"),
    Node("Platform Engineering", "Technology", "department"),
    Node("Developer Experience", "Platform Engineering", "team"),
    Node("Code Review", "Developer Experience", "project"),
    Node("Analytics", "Platform Engineering", "team"),
    Node("Security", "Technology", "department"),
    Node("Operations", "", "division"),
    Node("Revenue", "Operations", "department"),
    Node("Claims", "Revenue", "team"),
    Node("Claims Extraction", "Claims", "project"),
)

FOUNDER = Person("Ada Lindqvist", "", RoleName.ADMIN, "Super Admin")
PEOPLE = (
    FOUNDER,
    Person("Marco Ferri", "Clinical Products", RoleName.ADMIN, "L1 Admin"),
    Person("Priya Raman", "Technology", RoleName.ADMIN, "L1 Admin"),
    Person("Jonas Weber", "Patient Experience", RoleName.ADMIN, "Sub-admin"),
    Person("Sofia Almeida", "Platform Engineering", RoleName.ADMIN, "Sub-admin"),
    Person("Tom Okafor", "Claims", RoleName.ADMIN, "Sub-admin"),
    Person("Lena Novak", "Symptom Checker"),
    Person("Diego Santos", "Visit Summaries"),
    Person("Emma Clark", "Guidelines"),
    Person("Hannah Cole", "Code Review", title="Team lead"),
    Person("Yuki Tanaka", "Analytics"),
    Person("Omar Haddad", "Claims Extraction"),
    Person("Ruth Bergmann", "", RoleName.FINANCE, "Finance"),
    Person("Paul Neumann", "", RoleName.AUDITOR, "Auditor"),
)

ROLES = (
    OwnRole(
        "Team lead",
        "",
        (Permission.VIEW_USAGE, Permission.MANAGE_KEYS, Permission.MANAGE_APPLICATIONS, Permission.MANAGE_GUARDRAILS),
        "Looks after the keys and applications of a team.",
        ("Hannah Cole",),
    ),
)

INVITATIONS = (
    Invite("Analytics", "Nadia Rahimi"),
    Invite("Claims", "Victor Lindholm", RoleName.FINANCE),
    Invite("Contact Centre", uses=20, days=90),
)

APPLICATIONS = (
    App("Playground", "", ("quickstart",), ("development",)),
    App("Symptom Checker", "Symptom Checker", ("triage", "follow-up")),
    App("Visit Summaries", "Visit Summaries", ("summary", "translation")),
    App("Contact Centre Assistant", "Contact Centre", ("answer", "handover")),
    App("Guideline Search", "Guidelines", ("search", "cite")),
    App("Developer Copilot", "Developer Experience", ("chat", "complete"), ("development",)),
    App("Code Review Bot", "Code Review", ("review", "explain"), ("ci",)),
    App("SQL Assistant", "Analytics", ("query", "chart")),
    App("Claims Extraction", "Claims Extraction", ("extract", "classify")),
)

KEYS = (
    Key(QUICKSTART, "", "Ada Lindqvist", "Playground", "development", ("quickstart",)),
    Key("Symptom Checker production", "Symptom Checker", "", "Symptom Checker", "production", ("triage", "follow-up")),
    Key("Symptom Checker staging", "Symptom Checker", "", "Symptom Checker", "staging", ("triage", "follow-up")),
    Key("Visit Summaries production", "Visit Summaries", "", "Visit Summaries", "production", ("summary", "translation")),
    Key("Contact Centre production", "Contact Centre", "", "Contact Centre Assistant", "production", ("answer", "handover")),
    Key("Guideline Search production", "Guidelines", "", "Guideline Search", "production", ("search", "cite")),
    Key("Code Review pipeline", "Code Review", "", "Code Review Bot", "ci", ("review", "explain")),
    Key("SQL Assistant production", "Analytics", "", "SQL Assistant", "production", ("query", "chart")),
    Key("Claims Extraction production", "Claims Extraction", "", "Claims Extraction", "production", ("extract", "classify")),
    Key("Lena's laptop", "Symptom Checker", "Lena Novak", limits=KeyLimits(monthly_nano_usd=parse_usd("5"))),
    Key("Diego's notebook", "Visit Summaries", "Diego Santos"),
    Key("Emma's research", "Guidelines", "Emma Clark"),
    Key("Hannah's editor", "Code Review", "Hannah Cole", "Developer Copilot", "development", ("complete",)),
    Key("Yuki's notebook", "Analytics", "Yuki Tanaka", limits=KeyLimits(daily_nano_usd=parse_usd("1"), rpm=60)),
    Key("Priya's experiments", "Technology", "Priya Raman"),
    Key("Omar's first try", "Claims Extraction", "Omar Haddad", disabled=True),
)

RULES = (
    Rule("Company budget", (budget("1000", "month"), LimitSpec("seats", "now", 50)), groups=("",), about="All that we spend."),
    Rule("Division budget", (budget("100", "month"),), groups=("Clinical Products", "Technology", "Operations")),
    Rule("Mobile App budget", (budget("35", "month"),), groups=("Mobile App",)),
    Rule(
        "Personal use",
        (budget("3", "day"), budget("10", "month")),
        members=("Lena Novak", "Diego Santos", "Emma Clark", "Hannah Cole", "Yuki Tanaka", "Omar Haddad"),
    ),
    Rule("Claims pilot", (budget("10", "total"),), applications=("Claims Extraction",)),
    Rule("Public endpoint", (LimitSpec("rpm", "minute", 120),), keys=("Symptom Checker production",)),
    Rule(
        "New colleagues",
        (budget("10", "month"), LimitSpec("keys", "now", 3), LimitSpec("max_tokens", "call", 16_000)),
        default_members=("",),
        about="What everybody gets who has no policy of their own.",
    ),
    Rule(
        "Fair share of a key",
        (LimitSpec("parallel", "now", 20), LimitSpec("tpm", "minute", 500_000)),
        default_keys=("Technology",),
    ),
    Rule(
        "Thrift near the end",
        (budget("60", "quarter"),),
        groups=("Decision Support",),
        degrade_percent=90,
        degrade_model="sandbox-fast",
        about="From nine tenths of the budget on, the small model answers.",
    ),
    Rule("Staging", (budget("2", "day"), LimitSpec("rpm", "minute", 30)), keys=("Symptom Checker staging",)),
)
