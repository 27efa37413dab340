"""What the pages of policies read, cut to what the actor may see; and what is odd about a policy where it is bound."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from django.contrib.postgres.aggregates import ArrayAgg
from django.db.models import Exists, OuterRef, Q, QuerySet, prefetch_related_objects

from guardrails import coherence, offered, spending, windows
from guardrails.coherence import Placed, Shape
from guardrails.in_force import InForce, bindings_on, placed
from guardrails.models import Binding, Limit, Override, Policy
from guardrails.services.overrides import running
from guardrails.subjects import Subject, counter_of
from orgs.actor import LINEAGE, Actor
from orgs.models import ApiKey, Application, AuditEvent, Group, Membership, Organization, User
from orgs.permissions import Permission
from orgs.selectors import with_groups, within

MOST_EVENTS = 12
# So many are looked at for those that may be shown.
MOST_READ = 300
SUBJECTS = ("group", "member", "api_key", "application")


# (limit, counter's name) → nano-dollars.
Amounts = Mapping[tuple[int, str], int]


class Use(NamedTuple):
    """A budget of one subject: nano-dollars spent of its limit, exceptions included, and when its window ends."""

    limit: Limit
    subject: Subject
    spent: int
    value: int
    resets_at: datetime | None


def policies_visible_to(actor: Actor) -> QuerySet[Policy]:
    """Those bound to something the actor may see; whoever manages guardrails somewhere sees those bound to nothing, too."""
    return _shared(actor, Q(pk__in=bindings_visible_to(actor).order_by().values("policy"))).prefetch_related("limits", "rules")


def _shared(actor: Actor, bound: Q) -> QuerySet[Policy]:
    """`bound`: those bound to something the actor may see."""
    if actor.can_anywhere(Permission.MANAGE_GUARDRAILS):
        bound |= ~Q(Exists(Binding.objects.filter(policy=OuterRef("pk"))))
    return Policy.objects.filter(bound, organization=actor.organization, dedicated=False).order_by("name", "pk")


def listed_policies(actor: Actor) -> tuple[list[Policy], list[Binding]]:
    """All that the actor may see, with the kinds of their rules as `rule_kinds`, and what it may see them bound to."""
    bindings = list(bindings_visible_to(actor).select_related(*SUBJECTS))
    kinds = ArrayAgg("rules__kind", distinct=True, filter=Q(rules__isnull=False), default=[])
    policies = _shared(actor, Q(pk__in={binding.policy_id for binding in bindings})).prefetch_related("limits")
    found: list[Policy] = list(policies.annotate(rule_kinds=kinds))
    return found, _of_policies(bindings, found)


def bindings_visible_to(actor: Actor) -> QuerySet[Binding]:
    """Of shared policies, with the subjects that the actor may see."""
    found = Binding.objects.filter(about_seen(actor), organization=actor.organization, policy__dedicated=False)
    return found.exclude(api_key__revoked_at__isnull=False).order_by("pk")


def about_seen(actor: Actor, *, permission: Permission = Permission.VIEW_USAGE) -> Q:
    """Bindings and exceptions: below the nodes where the actor has the permission, and on the way up from where it belongs."""
    scope = actor.scope(permission)
    seen = Q(group__in=_own_path(actor)) | Q(member=actor.user) | Q(api_key__member=actor.user)
    if not scope:
        return seen
    members = Membership.objects.filter(within(scope, field="group"), organization=actor.organization)
    seen |= Q(member__in=members.values("user"))
    if any(group.parent_id is None for group in scope):  # all groups, keys and applications that there are
        return seen | Q(member=None, organization=actor.organization)
    return seen | within(scope, field="group") | within(scope, field="application__group") | within(scope, field="api_key__group")


def _own_path(actor: Actor) -> set[int]:
    return {node for membership in actor.memberships for node in membership.group.lineage()}


def bindings_of(policy: Policy, *, actor: Actor) -> list[Binding]:
    """Groups and their paths are for `with_paths` to read."""
    return _of_policies(bindings_visible_to(actor).filter(policy=policy).select_related(*SUBJECTS[1:]), [policy])


def with_paths(rows: Iterable[Binding | Override]) -> None:
    """Reads the groups of their subjects, with their paths, by one statement: joined to each row they are fifteen tables."""
    subjects = [row if row.group_id is not None else row.api_key or row.application for row in rows]
    with_groups(subject for subject in subjects if subject is not None)


def _of_policies(bindings: Iterable[Binding], policies: Iterable[Policy]) -> list[Binding]:
    """Each with its policy as it is loaded already, limits included; not those of a policy deleted meanwhile."""
    loaded = {policy.pk: policy for policy in policies}
    found = [binding for binding in bindings if binding.policy_id in loaded]
    for binding in found:
        binding.policy = loaded[binding.policy_id]
    return found


def uses_of(
    bindings: Iterable[Binding], *, organization: Organization, now: datetime, overrides: Iterable[Override] | None = None
) -> dict[int, list[Use]]:
    """By binding; budgets of what a policy is bound to itself, not of those whom a default comes to. Two statements.

    The limits of each `binding.policy` must be loaded. `overrides`: those running, where they are loaded already.
    """
    wanted = [
        (binding.pk, limit, binding.subject)
        for binding in bindings
        if binding.reach == Binding.Reach.SELF
        for limit in binding.policy.limits.all()
        if limit.kind == Limit.Kind.BUDGET
    ]
    return uses_with_exceptions(wanted, organization=organization, now=now, overrides=overrides)


def uses_with_exceptions(
    wanted: Collection[tuple[int, Limit, Subject]],
    *,
    organization: Organization,
    now: datetime,
    overrides: Iterable[Override] | None = None,
) -> dict[int, list[Use]]:
    """By binding: of (binding, budget, subject). Two statements; one where `overrides` are loaded already."""
    if overrides is None:
        limits = [limit.pk for _, limit, _ in wanted]
        overrides = Override.objects.filter(running(now), limit__in=limits).select_related(*SUBJECTS)
    more, forgiven = _exceptions(overrides, now=now)
    return budgets_used(wanted, more, forgiven, organization=organization, now=now)


def budgets_used(
    wanted: Collection[tuple[int, Limit, Subject]], more: Amounts, forgiven: Amounts, *, organization: Organization, now: datetime
) -> dict[int, list[Use]]:
    """By binding: of (binding, budget, subject), with what exceptions add and what resets forgave. One statement."""
    calendar = windows.Calendar.of(organization)
    starts = {limit.window: windows.containing(now, _kind(limit), calendar) for _, limit, _ in wanted}
    spent = spending.spent(organization.pk, {_asked(limit, subject, starts[limit.window]) for _, limit, subject in wanted})
    found: dict[int, list[Use]] = {}
    for pk, limit, subject in wanted:
        window, name = starts[limit.window], counter_of(subject)
        counted = max(0, spent[_asked(limit, subject, window)] - forgiven.get((limit.pk, name), 0))
        value = limit.value + more.get((limit.pk, name), 0)
        found.setdefault(pk, []).append(Use(limit, subject, counted, value, window.ends_at))
    return found


def _asked(limit: Limit, subject: Subject, window: windows.Window) -> spending.Asked:
    return spending.Asked(counter_of(subject), window.starts_at, limit.counts_byok)


def _exceptions(overrides: Iterable[Override], *, now: datetime) -> tuple[dict[tuple[int, str], int], dict[tuple[int, str], int]]:
    """What exceptions add now, and what resets have forgiven."""
    more: dict[tuple[int, str], int] = {}
    forgiven: dict[tuple[int, str], int] = {}
    for one in overrides:
        if one.starts_at > now:
            continue
        sums = forgiven if one.kind == Override.Kind.RESET else more
        place = (one.limit_id, counter_of(one.subject))
        sums[place] = sums.get(place, 0) + one.amount
    return more, forgiven


def homes_of(rows: Iterable[Binding | Override], *, organization: Organization) -> dict[int, list[Group]]:
    """The groups of the members named, by the member's id."""
    members = {row.member_id for row in rows if row.member_id is not None}
    found: dict[int, list[Group]] = {}
    if members:
        belongs = Membership.objects.filter(user__in=members, organization=organization).select_related(LINEAGE)
        for membership in belongs:
            found.setdefault(membership.user_id, []).append(membership.group)
    return found


def overrides_of(policy: Policy, *, actor: Actor, now: datetime) -> list[Override]:
    """Those that count or are still to begin, of subjects that the actor may see; the first to end first. As `bindings_of`."""
    found = Override.objects.filter(running(now), about_seen(actor), limit__policy=policy)
    rows = found.select_related("limit", "created_by", *SUBJECTS[1:])
    return sorted(rows, key=lambda one: (one.until is None, one.until or now, one.pk))


def overrides_visible_to(actor: Actor) -> QuerySet[Override]:
    """Of shared policies, those that are over included."""
    policies = policies_visible_to(actor).order_by().values("pk")
    found = Override.objects.filter(about_seen(actor), organization=actor.organization, limit__policy__in=policies)
    return found.select_related("limit", *SUBJECTS)


def history_of(policy: Policy, *, actor: Actor) -> list[AuditEvent]:
    """The latest, without what happened to subjects whose audit trail the actor may not read."""
    found = AuditEvent.objects.filter(
        organization=policy.organization_id, object_type="policy", object_id=str(policy.pk), action__startswith="policy."
    )
    events = found.select_related("actor").order_by("-at", "-pk")
    if actor.can_everywhere(Permission.VIEW_AUDIT):
        return list(events[:MOST_EVENTS])
    read = [(event, _named_in(event)) for event in events[:MOST_READ]]
    seen = _audited_by(actor, {named for _, named in read if named})
    return [event for event, named in read if named is None or named in seen][:MOST_EVENTS]


def _named_in(event: AuditEvent) -> tuple[str, int] | None:
    """The subject that an event is about: its column and id. None: it is about the policy itself."""
    facts = event.after or event.before
    return (str(facts["subject"]), int(facts["id"])) if "subject" in facts else None


def _audited_by(actor: Actor, named: set[tuple[str, int]]) -> set[tuple[str, int]]:
    """Those of the subjects that are the actor's own, on its way up, or below a node whose audit trail it may read."""
    scope, organization = actor.scope(Permission.VIEW_AUDIT), actor.organization
    members = Membership.objects.filter(within(scope, field="group"), organization=organization)
    below = within(scope, field="group")
    sets: dict[str, QuerySet[Any]] = {
        "group": Group.objects.filter(within(scope) | Q(pk__in=_own_path(actor)), organization=organization),
        "member": User.objects.filter(Q(pk=actor.user.pk) | Q(pk__in=members.values("user"))),
        "api_key": ApiKey.objects.filter(below | Q(member=actor.user), organization=organization),
        "application": Application.objects.filter(below, organization=organization),
    }
    ids = {column: {pk for kind, pk in named if kind == column} for column in sets}
    return {
        (column, pk)
        for column, rows in sets.items()
        if ids[column]
        for pk in rows.filter(pk__in=ids[column]).values_list("pk", flat=True)
    }


def applying_to(actor: Actor) -> list[tuple[str, list[InForce]]]:
    """The actor's own memberships and keys, each with the policies that apply to it; a handful of statements for all."""
    live = ApiKey.objects.filter(organization=actor.organization, member=actor.user, revoked_at=None)
    keys = list(live.select_related("application", LINEAGE).order_by("name", "pk")[:MOST_EVENTS])
    paths = [membership.group.path() for membership in actor.memberships]
    bindings = _bindings_on([*paths, *(key.group.path() for key in keys)], keys, actor=actor)
    found = [(path[-1].name, _placed_on(bindings, path, member=actor.user)) for path in paths]
    return [entry for entry in [*found, *((key.name, _of_key(bindings, key)) for key in keys)] if entry[1]]


def _bindings_on(paths: Iterable[list[Group]], keys: Iterable[ApiKey], *, actor: Actor) -> list[Binding]:
    keys = list(keys)
    on = Q(group__in={node.pk for path in paths for node in path}) | Q(member=actor.user) | Q(api_key__in=keys)
    on |= Q(application__in={key.application_id for key in keys if key.application_id})
    found = Binding.objects.filter(on, organization=actor.organization).order_by("pk")
    related = found.select_related("policy", "group", "member", "api_key", "application")
    return list(related.prefetch_related("policy__limits", "policy__rules"))


def _placed_on(
    bindings: Iterable[Binding], path: list[Group], *, member: User | None = None, key: ApiKey | None = None
) -> list[InForce]:
    ids = {node.pk for node in path}
    on = [
        one
        for one in bindings
        if one.group_id in ids
        or (member is not None and one.member_id == member.pk)
        or (key is not None and (one.api_key_id == key.pk or (one.application_id and one.application_id == key.application_id)))
    ]
    return placed(on, path, member, key)


def _of_key(bindings: Iterable[Binding], key: ApiKey) -> list[InForce]:
    """What is set on the key and its application: the rest it has from its group and member."""
    return [one for one in _placed_on(bindings, key.group.path(), key=key) if isinstance(one.subject, ApiKey | Application)]


# --- what is odd ----------------------------------------------------------------------------------


def warnings_about(policy: Policy, *, actor: Actor) -> list[str]:
    """By itself, and where the actor sees it bound against the policies above and below that it sees. A handful of statements."""
    known = offered.models()
    bound = _bound_somewhere(actor, policy)
    own = [one for one in bound if one.policy_id == policy.pk]
    elsewhere = [one for one in bound if one.policy_id != policy.pk]
    prefetch_related_objects([policy, *(one.policy for one in elsewhere)], "limits", "rules")
    found, homes = coherence.of_itself(shape_of(policy), known), homes_of(own, organization=actor.organization)
    for binding in own:
        found += _at(binding, _home(binding, homes), shape_of(policy), elsewhere, known)
    return list(dict.fromkeys(found))


def warnings_at(binding: Binding, *, actor: Actor) -> list[str]:
    """Of one binding that the actor sees: the same, of this place alone."""
    elsewhere = [one for one in _bound_somewhere(actor, binding.policy) if one.policy_id != binding.policy_id]
    prefetch_related_objects([binding.policy, *(one.policy for one in elsewhere)], "limits", "rules")
    shape, known = shape_of(binding.policy), offered.models()
    home = _home(binding, homes_of([binding], organization=actor.organization))
    return list(dict.fromkeys([*coherence.of_itself(shape, known), *_at(binding, home, shape, elsewhere, known)]))


def warnings_about_key(key: ApiKey, *, actor: Actor) -> list[str]:
    """Of its own limits: by themselves, and against what the actor sees apply to it, its application, member and groups."""
    path = key.group.path()
    on_path = bindings_on(key.organization, path=path, member=key.member, key=key, application=key.application)
    own = next((one.policy for one in on_path if one.policy.dedicated and one.api_key_id == key.pk), None)
    if own is None:
        return []
    seen = set(bindings_visible_to(actor).filter(pk__in=[one.pk for one in on_path]).values_list("pk", flat=True))
    above = placed([one for one in on_path if one.pk in seen], path, key.member, key)
    places, known = [Placed(shape_of(one.policy), str(one.subject)) for one in above], offered.models()
    at_its_place = coherence.at_a_place(Placed(shape_of(own), str(key)), above=places, below=[], offered=known)
    return [*coherence.of_itself(shape_of(own), known), *at_its_place]


def _bound_somewhere(actor: Actor, policy: Policy) -> list[Binding]:
    """Where the actor sees this policy bound, and whatever is bound to groups."""
    bound = bindings_visible_to(actor).filter(Q(group__isnull=False) | Q(policy=policy))
    found = list(bound.select_related("policy", *SUBJECTS[1:]))
    with_paths(found)
    return found


def _at(
    binding: Binding, home: Group | None, shape: Shape, elsewhere: list[Binding], known: list[offered.OfferedModel]
) -> list[str]:
    subject = binding.subject
    lineage = home.lineage() if home else []
    # What stands on its own group is above a member, key or application, and beside a group.
    above_ids = lineage[:-1] if isinstance(subject, Group) and binding.reach == Binding.Reach.SELF else lineage
    own = Placed(shape, str(subject))
    same = [one for one in elsewhere if one.reach == binding.reach]
    if binding.reach != Binding.Reach.SELF:
        above, below = _around(same, lineage[:-1], home)
        hidden = coherence.hidden_default(own, above=above, below=below, what=binding.reach)
        above, _ = _around([one for one in elsewhere if one.reach == Binding.Reach.SELF], above_ids, None)
        return hidden + coherence.at_a_place(own, above=above, below=[], offered=known)
    above, below = _around(same, above_ids, home if isinstance(subject, Group) else None)
    return coherence.at_a_place(own, above=above, below=below, offered=known)


def _around(bindings: Iterable[Binding], above: Iterable[int], home: Group | None) -> tuple[list[Placed], list[Placed]]:
    """Policies on the groups `above`, and on those below `home`."""
    ids = set(above)
    grouped = [(one, one.group) for one in bindings]
    return (
        [Placed(shape_of(one.policy), group.name) for one, group in grouped if group and group.pk in ids],
        [
            Placed(shape_of(one.policy), group.name)
            for one, group in grouped
            if home and group and group.pk != home.pk and home.contains(group)
        ],
    )


def _home(binding: Binding, homes: Mapping[int, list[Group]]) -> Group | None:
    """A member has one where it belongs to one group only: else no path is its own. `homes`: of members, by their ids."""
    if binding.member_id is None:
        thing = binding.api_key or binding.application
        return thing.group if thing else binding.group
    groups = homes.get(binding.member_id, [])
    return groups[0] if len(groups) == 1 else None


def shape_of(policy: Policy) -> Shape:
    return Shape(
        name=policy.name,
        limits={(limit.kind, limit.window): limit.value for limit in policy.limits.all()},
        rules={rule.kind: rule.entries for rule in policy.rules.all()},
        degrade_model=policy.degrade_model,
    )


def _kind(limit: Limit) -> windows.Kind:
    return next((kind for kind in windows.BOUNDED if kind == limit.window), "total")
