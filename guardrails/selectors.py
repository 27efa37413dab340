"""What the key pages read: keys cut to what the actor may see, and the limits set on them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import timedelta
from typing import NamedTuple

from django.db.models import F, Prefetch, Q, QuerySet, prefetch_related_objects
from django.utils import timezone

from gateway_project.lib import keyset
from guardrails.models import Binding, Limit, Policy, Rule
from orgs.actor import Actor
from orgs.attributed import LACKING
from orgs.key_use import unused_since
from orgs.models import ApiKey, AuditEvent, Group
from orgs.selectors import keys_visible_to, with_groups, within

PAGE_SIZE = 50


class KeyLimits(NamedTuple):
    """A key's own limits; None: no such limit."""

    daily_nano_usd: int | None = None
    monthly_nano_usd: int | None = None
    total_nano_usd: int | None = None
    rpm: int | None = None
    weekly_nano_usd: int | None = None
    tpm: int | None = None
    rpd: int | None = None
    parallel: int | None = None
    max_tokens: int | None = None


class KeyRules(NamedTuple):
    """A key's own lists; an empty one restricts nothing."""

    models: tuple[str, ...] = ()
    blocked_models: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()


NO_LIMITS = KeyLimits()
NO_RULES = KeyRules()
# Field → (kind, window) of its Limit row.
WINDOWS: dict[str, tuple[str, str]] = {
    "daily_nano_usd": ("budget", "day"),
    "monthly_nano_usd": ("budget", "month"),
    "total_nano_usd": ("budget", "total"),
    "rpm": ("rpm", "minute"),
    "weekly_nano_usd": ("budget", "week"),
    "tpm": ("tpm", "minute"),
    "rpd": ("rpd", "day"),
    "parallel": ("parallel", "now"),
    "max_tokens": ("max_tokens", "call"),
}
STATUSES = ("active", "disabled", "expired", "revoked")
WATCHES = ("expiring", "unused", "unattributed")
EXPIRES_SOON, LONG_UNUSED = timedelta(days=14), timedelta(days=30)
MINE, SERVICE = "me", "service"
# Where `with_own_limits` puts the bindings of a key's dedicated policy.
DEDICATED = "dedicated_bindings"
# Of a choice in the filter bar; whoever is looked for beyond is found by the search.
MOST_OFFERED = 500


class Narrowed(NamedTuple):
    """What of the keys is asked for; empty and None: no such filter. `whose`: "me" or "service", keys of no member."""

    status: str = ""
    search: str = ""
    group: int | None = None
    whose: str = ""
    member: int | None = None
    application: int | None = None
    watch: str = ""


class KeyPage(NamedTuple):
    """One page of the list, newest first. `older` and `newer` are the keys to go on from; None at an end."""

    keys: list[ApiKey]
    older: int | None
    newer: int | None


def dedicated_policy(key: ApiKey) -> Policy | None:
    return Policy.objects.filter(dedicated=True, bindings__api_key=key).first()


def audit_lines(key: ApiKey, *, count: int = 100) -> list[AuditEvent]:
    """What was done to the key, newest first; whoever may see the key may see it."""
    events = AuditEvent.objects.filter(organization=key.organization_id, object_type="apikey", object_id=str(key.pk))
    return list(events.select_related("actor").order_by("-at", "-pk")[:count])


def own_limits(key: ApiKey) -> KeyLimits:
    """Those of the key's dedicated policy, which its page edits."""
    rows = Limit.objects.filter(policy__dedicated=True, policy__bindings__api_key=key)
    values = {(limit.kind, limit.window): limit.value for limit in rows}
    return KeyLimits(**{field: values.get(window) for field, window in WINDOWS.items()})


def own_rules(key: ApiKey) -> KeyRules:
    rows = Rule.objects.filter(policy__dedicated=True, policy__bindings__api_key=key, kind__in=KeyRules._fields)
    return KeyRules(**{rule.kind: tuple(rule.entries) for rule in rows})


def with_own_limits(keys: QuerySet[ApiKey]) -> QuerySet[ApiKey]:
    """So that `own_of` asks nothing more, for however many keys."""
    return keys.prefetch_related(_dedicated())


def load_own_limits(key: ApiKey) -> ApiKey:
    """The same for one that was loaded without them."""
    prefetch_related_objects([key], _dedicated())
    return key


def _dedicated() -> Prefetch[str]:
    bindings = Binding.objects.filter(policy__dedicated=True).select_related("policy")
    return Prefetch("bindings", bindings.prefetch_related("policy__limits", "policy__rules"), to_attr=DEDICATED)


def own_of(key: ApiKey) -> tuple[KeyLimits, KeyRules]:
    """`own_limits` and `own_rules` of a key of `with_own_limits`."""
    policies = [binding.policy for binding in getattr(key, DEDICATED)]
    values = {(limit.kind, limit.window): limit.value for policy in policies for limit in policy.limits.all()}
    lists = {rule.kind: tuple(rule.entries) for policy in policies for rule in policy.rules.all()}
    return (
        KeyLimits(**{field: values.get(window) for field, window in WINDOWS.items()}),
        KeyRules(**{kind: lists.get(kind, ()) for kind in KeyRules._fields}),
    )


def limits_by_key(keys: Iterable[ApiKey]) -> dict[int, list[Limit]]:
    """Every limit bound to these very keys, by key id; limits of groups, members and applications above are not here."""
    ids = [key.pk for key in keys]
    found: defaultdict[int, list[Limit]] = defaultdict(list)
    bound = Limit.objects.filter(policy__bindings__api_key__in=ids).annotate(key_id=F("policy__bindings__api_key"))
    for limit in bound.order_by("kind", "id"):
        found[limit.key_id].append(limit)
    return dict(found)


def key_page(
    actor: Actor, narrowed: Narrowed, *, before: int | None = None, after: int | None = None, tree: Iterable[Group] = ()
) -> KeyPage:
    """With the paths of their groups; `tree`: groups that are read already."""
    keys = narrowed_keys(actor, narrowed).select_related(None).select_related("member", "application")
    page = KeyPage(*keyset.page_of(keys, before=before, after=after, size=PAGE_SIZE))
    with_groups(page.keys, tree=tree)
    for key in page.keys:
        key.organization = actor.organization
    return page


def narrowed_keys(actor: Actor, narrowed: Narrowed) -> QuerySet[ApiKey]:
    """Deleted keys are shown only where the status asks for them. Ids need no check: what the actor may see bounds them."""
    keys = keys_visible_to(actor).select_related("organization").filter(_in_status(narrowed.status))
    if narrowed.search:
        keys = keys.filter(_matching(narrowed.search))
    if narrowed.group is not None:
        keys = keys.filter(within(Group.objects.filter(organization=actor.organization, pk=narrowed.group), field="group"))
    if narrowed.whose:
        keys = keys.filter(member=None) if narrowed.whose == SERVICE else keys.filter(member=actor.user)
    if narrowed.member is not None:
        keys = keys.filter(member=narrowed.member)
    if narrowed.application is not None:
        keys = keys.filter(application=narrowed.application)
    return keys.filter(_watched(narrowed.watch))


class Offered(NamedTuple):
    """Whose keys there are and for what: (id, name), by name."""

    members: list[tuple[int, str]]
    applications: list[tuple[int, str]]


def offered(actor: Actor) -> Offered:
    """Of the keys that the actor may see, in one statement."""
    keys = (
        keys_visible_to(actor)
        .order_by()
        .values_list("member", "member__name", "member__email", "application", "application__name")
    )
    found = list(keys.distinct()[:MOST_OFFERED])
    members = {member: name or email for member, name, email, _, _ in found if member is not None}
    applications = {application: name for _, _, _, application, name in found if application is not None}
    return Offered(*(sorted(named.items(), key=lambda one: one[1].lower()) for named in (members, applications)))


def _in_status(status: str) -> Q:
    now = timezone.now()
    live = Q(revoked_at=None, disabled_at=None)
    return {
        "active": live & (Q(expires_at=None) | Q(expires_at__gt=now)),
        "disabled": Q(revoked_at=None, disabled_at__isnull=False),
        "expired": live & Q(expires_at__lte=now),
        "revoked": Q(revoked_at__isnull=False),
    }.get(status, Q(revoked_at=None))


def _watched(watch: str) -> Q:
    now = timezone.now()
    if watch == "expiring":
        return Q(expires_at__gt=now, expires_at__lte=now + EXPIRES_SOON)
    return {"unused": unused_since(now - LONG_UNUSED), "unattributed": LACKING}.get(watch, Q())


def _matching(search: str) -> Q:
    """By name, member, application, or any part of what is shown of the key itself."""
    words = Q(name__icontains=search) | Q(member__email__icontains=search) | Q(member__name__icontains=search)
    shown = search.removeprefix("gh_sk_").split("…")[0].split("_")[0]
    return words | Q(application__name__icontains=search) | Q(public_id__startswith=shown) | Q(last_four=search[-4:])
