"""The demo organisation, made through the services that the console uses.

Guarantees: made once, in one transaction; told again, the same key and the same passwords come back; an installation
that other people use is left alone unless it is asked for.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from datetime import timedelta
from typing import NamedTuple

from allauth.account.models import EmailAddress
from django.conf import settings
from django.contrib.auth.hashers import make_password
from django.db import connection, transaction
from django.db.models import Model
from django.utils import timezone

from billing import credits
from gateway_project.demo import catalogue, company, credentials
from gateway_project.demo.company import FOUNDER, PEOPLE, QUICKSTART
from gateway_project.demo.credentials import Credentials
from gateway_project.lib.crypto import digest
from guardrails.models import Binding, Policy
from guardrails.services.bindings import bind
from guardrails.services.key_limits import create_limited_key
from guardrails.services.policies import create_policy
from guardrails.subjects import Subject
from orgs.actor import Actor
from orgs.models import ApiKey, Application, Group, Invitation, Membership, Organization, Role, RoleGrant, User
from orgs.permissions import RoleName
from orgs.services.applications import create_application
from orgs.services.groups import create_group
from orgs.services.invitations import invite
from orgs.services.keys import disable_key
from orgs.services.members import add_member, grant_role
from orgs.services.organizations import create_organization, create_personal_account
from orgs.services.roles import create_role
from proxy.choice_services import add_candidate, set_baseline
from proxy.models import Alias, Preset
from proxy.naming_services import PresetWords, create_alias, create_preset

# Two commands at once make one organisation: this number is theirs among PostgreSQL's advisory locks.
_LOCK = 0x64656D6F
AGED: tuple[type[Model], ...] = (
    Group, Membership, Role, RoleGrant, Application, ApiKey, Policy, Binding, Alias, Preset,
)  # fmt: skip


class NotADemo(Exception):
    """Other people use this installation. The message is for whoever ran the command."""


class Login(NamedTuple):
    email: str
    password: str
    role: str


class Demo(NamedTuple):
    """`created` says whether it was made just now."""

    gateway_url: str
    console_url: str
    api_key: str
    users: list[Login]
    created: bool


class _Made(NamedTuple):
    """By name; "" is the root group."""

    groups: dict[str, Group]
    users: dict[str, User]
    applications: dict[str, Application]
    keys: dict[str, ApiKey]


def find() -> Organization | None:
    """The first company of the demo's founder, whatever it is called by now."""
    founded = Organization.objects.filter(
        kind=Organization.Kind.COMPANY,
        grants__user__email=FOUNDER.email,
        grants__role=RoleName.ADMIN,
        grants__group__parent=None,
    )
    return founded.order_by("pk").first()


def ensure(*, beside_others: bool = False) -> Demo:
    """The demo organisation, made if it is missing. Raises NotADemo, except with `beside_others`."""
    known, found = credentials.read(), find()
    if known and found and known.organization_id == found.pk and _opens(known):
        catalogue.declare_missing()
        return _demo(known, created=False)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
        found = find()
        if found is None and not beside_others:
            _refuse_in_use()
        catalogue.declare_missing()
        fresh = _create() if found is None else _renew(found)
    credentials.write(fresh)
    return _demo(fresh, created=found is None)


def _opens(known: Credentials) -> bool:
    """Whether the remembered key still lets calls through."""
    key = ApiKey.objects.filter(organization=known.organization_id, digest=digest(known.api_key)).first()
    return key is not None and key.status == "active"


def _demo(known: Credentials, *, created: bool) -> Demo:
    people = [Login(person.email, known.password, person.title) for person in PEOPLE]
    return Demo(settings.PUBLIC_URL, f"{settings.PUBLIC_URL}/", known.api_key, people, created)


def _refuse_in_use() -> None:
    if User.objects.exists():
        raise NotADemo(
            "This installation has users of its own, so no demo organisation was added."
            " `manage.py demo --create` adds it beside theirs."
        )


def _create() -> Credentials:
    password = secrets.token_urlsafe(12)
    users = _create_people(password)
    founder = users[FOUNDER.name]
    organization = create_organization(company.NAME, owner=founder, time_zone=company.TIME_ZONE)
    actor = Actor.load(founder, organization=organization)
    groups = _create_groups(organization, by=actor)
    _place_people(users, groups, by=actor)
    _create_roles(users, groups, by=actor)
    _invite(groups, by=actor)
    applications = _create_applications(groups, by=actor)
    made = _Made(groups, users, applications, {})
    text = _create_keys(made, by=actor)
    _create_rules(organization, made, by=actor)
    _name_models(groups, by=actor)
    for person in users.values():
        create_personal_account(person)
    credits.top_up(organization, amount_nano_usd=company.TOP_UP_NANO_USD, reference="demo", by=founder, note="Demo credit")
    _age(users)
    return Credentials(organization.pk, text, password)


def _age(users: Mapping[str, User]) -> None:
    """What they made is as old as if they had made it then. The audit trail and the credit say when it was in truth."""
    began = timezone.now() - company.AGE
    people = User.objects.filter(pk__in=[user.pk for user in users.values()])
    people.update(date_joined=began)
    theirs = list(Organization.objects.filter(memberships__user__in=people).distinct())
    Organization.objects.filter(pk__in=[one.pk for one in theirs]).update(created_at=began)
    for model in AGED:
        model._default_manager.filter(organization__in=theirs).update(created_at=began)


def _create_people(password: str) -> dict[str, User]:
    """One password for all, hashed once: a dozen deliberately slow hashes would be felt at the first start."""
    if taken := User.objects.filter(email__in=[person.email for person in PEOPLE]).first():
        raise NotADemo(f"{taken.email} has an account here already, so the demo organisation cannot be added.")
    encoded = make_password(password)
    users = User.objects.bulk_create(User(email=person.email, name=person.name, password=encoded) for person in PEOPLE)
    EmailAddress.objects.bulk_create(EmailAddress(user=user, email=user.email, primary=True, verified=True) for user in users)
    return {user.name: user for user in users}


def _create_groups(organization: Organization, *, by: Actor) -> dict[str, Group]:
    groups = {"": organization.root}
    for node in company.NODES:
        groups[node.name] = create_group(groups[node.parent], name=node.name, kind=node.kind, by=by)
    return groups


def _place_people(users: Mapping[str, User], groups: Mapping[str, Group], *, by: Actor) -> None:
    for person in PEOPLE:
        if person == FOUNDER:
            continue
        add_member(users[person.name], group=groups[person.group], by=by)
        if person.role is not None:
            grant_role(users[person.name], role=person.role, group=groups[person.group], by=by)


def _create_roles(users: Mapping[str, User], groups: Mapping[str, Group], *, by: Actor) -> None:
    homes = {person.name: person.group for person in PEOPLE}
    for wanted in company.ROLES:
        role = create_role(
            groups[wanted.group], name=wanted.name, permissions=wanted.permissions, description=wanted.about, by=by
        )
        for name in wanted.holders:
            grant_role(users[name], role=role, group=groups[homes[name]], by=by)


def _invite(groups: Mapping[str, Group], *, by: Actor) -> None:
    """Nobody reads the mails of example.com: none is sent, and the list says that they were."""
    now = timezone.now()
    for wanted in company.INVITATIONS:
        made = invite(
            groups[wanted.group],
            email=wanted.email,
            name=wanted.name,
            role=wanted.role,
            max_uses=wanted.uses,
            expires_at=now + timedelta(days=wanted.days),
            by=by,
        )
        Invitation.objects.filter(pk=made.pk).exclude(email="").update(sent_at=now)


def _create_applications(groups: Mapping[str, Group], *, by: Actor) -> dict[str, Application]:
    return {
        app.name: create_application(
            groups[app.group], name=app.name, features=app.features, environments=app.environments, by=by
        )
        for app in company.APPLICATIONS
    }


def _create_keys(made: _Made, *, by: Actor) -> str:
    """Returns the text of the Quickstart key; nobody ever sees the others'."""
    texts = {}
    for key in company.KEYS:
        made.keys[key.name], texts[key.name] = _create_key(key, made, by=by)
        if key.disabled:
            disable_key(made.keys[key.name], by=by)
    return texts[QUICKSTART]


def _create_key(key: company.Key, made: _Made, *, by: Actor) -> tuple[ApiKey, str]:
    """A member's by the member: nobody is to be told of it by e-mail, least of all at addresses of people who do not exist."""
    if key.member:
        by = Actor.load(made.users[key.member], organization=by.organization)
    return create_limited_key(
        made.groups[key.group],
        name=key.name,
        by=by,
        limits=key.limits,
        member=made.users[key.member] if key.member else None,
        application=made.applications[key.application] if key.application else None,
        environment=key.environment,
        features=key.features,
    )


def _create_rules(organization: Organization, made: _Made, *, by: Actor) -> None:
    for rule in company.RULES:
        policy = create_policy(
            organization,
            name=rule.name,
            description=rule.about,
            limits=rule.limits,
            rules=rule.lists,
            degrade_percent=rule.degrade_percent,
            degrade_model=rule.degrade_model,
            by=by,
        )
        subjects: list[Subject] = [
            *(made.groups[name] for name in rule.groups),
            *(made.users[name] for name in rule.members),
            *(made.applications[name] for name in rule.applications),
            *(made.keys[name] for name in rule.keys),
        ]
        for subject in subjects:
            bind(policy, subject=subject, by=by)
        for reach, names in (("members", rule.default_members), ("keys", rule.default_keys)):
            for name in names:
                bind(policy, subject=made.groups[name], reach=reach, by=by)


def _name_models(groups: Mapping[str, Group], *, by: Actor) -> None:
    for name in company.AUTO_CANDIDATES:  # or it would choose among those that fail on purpose
        add_candidate(name, by=by)
    set_baseline(company.BASELINE, by=by)
    for name, model in company.ALIASES.items():
        create_alias(groups[""], name=name, model=model, by=by)
    for preset in company.PRESETS:
        words = PresetWords(preset.model, preset.about, preset.system, preset.parameters)
        create_preset(groups[preset.group], name=preset.name, words=words, by=by)


def _renew(organization: Organization) -> Credentials:
    """A new key and a new password, in place of those nobody knows any more."""
    password = secrets.token_urlsafe(12)
    User.objects.filter(email__in=[person.email for person in PEOPLE]).update(password=make_password(password))
    founder = User.objects.get(email=FOUNDER.email)
    playground = Application.objects.filter(organization=organization, name="Playground", archived_at=None).first()
    made = _Made({"": organization.root}, {FOUNDER.name: founder}, {"Playground": playground} if playground else {}, {})
    quickstart = company.KEYS[0] if playground else company.Key(QUICKSTART, "", FOUNDER.name)
    _, text = _create_key(quickstart, made, by=Actor.load(founder, organization=organization))
    return Credentials(organization.pk, text, password)
