"""Whether a budget stops calls at once, said before it is saved: so much is spent already where it is bound, or lowered."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import NamedTuple

from django.utils import timezone

from gateway_project.lib.formatting import minute_words
from gateway_project.lib.money import display_usd
from guardrails.given import given_to
from guardrails.models import Binding, Limit, Policy
from guardrails.policy_pages import limit_words
from guardrails.policy_selectors import SUBJECTS, Use, uses_of, uses_with_exceptions
from guardrails.selectors import KeyLimits
from guardrails.services.key_limits import specs_of
from guardrails.services.policies import LimitSpec
from guardrails.subjects import Subject, column_of, token_of
from orgs.models import ApiKey, Organization

MOST_NAMED = 5


class Stopped(NamedTuple):
    """Whom a change stops at once. `token` says whom by which budgets: a form that carries it has been asked about these."""

    words: list[str]
    more: int
    token: str

    @property
    def subjects(self) -> int:
        return len(self.words) + self.more


def is_confirmed(stopped: Stopped | None, sent: Mapping[str, str]) -> bool:
    """Whether a form may be saved: it stops nobody, or whoever sends it has been told of these very subjects and figures."""
    return stopped is None or sent.get("confirm") == stopped.token


def stops(policy: Policy, *, subject: Subject, reach: str, now: datetime) -> str:
    """One sentence, of the budget that holds calls back longest; '' where there is room left.

    Of defaults nothing is said: each member or key they come to has a counter of its own.
    """
    organization: Organization = policy.organization
    binding = Binding(policy=policy, organization=organization, reach=reach, **{column_of(subject): subject})
    uses = uses_of([binding], organization=organization, now=now)
    over = [use for found in uses.values() for use in found if use.spent >= use.value]
    if not over:
        return ""
    return _words(_longest_first(over)[0])


def by_policy(policy: Policy, specs: Iterable[LimitSpec], *, organization: Organization, now: datetime) -> Stopped | None:
    """Whom the policy would stop, changed to say this: of what it is bound to, and of those whom its defaults come to.

    Its limits must be loaded. Four statements; where no budget is new or less, none.
    """
    lowered = _lowered(policy.limits.all(), specs)
    if not lowered:
        return None
    bindings = list(policy.bindings.exclude(api_key__revoked_at__isnull=False).select_related(*SUBJECTS))
    subjects = [one.subject for one in bindings if one.reach == Binding.Reach.SELF]
    given = given_to([one for one in bindings if one.reach != Binding.Reach.SELF], organization=organization)
    return _stopped(lowered, {token_of(subject): subject for subject in [*subjects, *given]}, organization, now=now)


def by_own_limits(
    key: ApiKey, limits: KeyLimits, *, before: KeyLimits, organization: Organization, now: datetime
) -> Stopped | None:
    """Whether a key's own limits would stop it. One statement; where no budget is new or less, none."""
    lowered = _lowered([Limit(**spec._asdict()) for spec in specs_of(before)], specs_of(limits))
    return _stopped(lowered, {token_of(key): key}, organization, now=now) if lowered else None


def _lowered(standing: Iterable[Limit], specs: Iterable[LimitSpec]) -> list[Limit]:
    """Budgets that are new, less than they were, or from now on count own provider keys, as they would be."""
    before = {limit.window: limit for limit in standing if limit.kind == Limit.Kind.BUDGET}
    found = []
    for spec in specs:
        old = before.get(spec.window)
        is_less = old is None or spec.value < old.value or (spec.counts_byok and not old.counts_byok)
        if spec.kind == Limit.Kind.BUDGET and is_less:
            found.append(Limit(pk=old.pk if old else None, **spec._asdict()))
    return found


def _stopped(lowered: list[Limit], subjects: dict[str, Subject], organization: Organization, *, now: datetime) -> Stopped | None:
    """Of each subject the budget that holds its calls back longest."""
    wanted = [(0, limit, subject) for limit in lowered for subject in subjects.values()]
    uses = uses_with_exceptions(wanted, organization=organization, now=now).get(0, []) if wanted else []
    over = _longest_first(use for use in uses if use.spent >= use.value)
    if not over:
        return None
    longest: dict[str, Use] = {}
    for use in over:
        longest.setdefault(token_of(use.subject), use)
    words = [_words(use) for use in list(longest.values())[:MOST_NAMED]]
    return Stopped(words, len(longest) - len(words), _token(over))


def _token(over: Iterable[Use]) -> str:
    """Another figure, another way of counting or another subject is another token; spending that goes on is not."""
    said = sorted(
        f"{token_of(use.subject)} {use.limit.window} {use.limit.value} {'own keys, too' if use.limit.counts_byok else ''}"
        for use in over
    )
    return hashlib.blake2s("\n".join(said).encode(), digest_size=16).hexdigest()


def _longest_first(over: Iterable[Use]) -> list[Use]:
    """One without an end is the longest; of those that end together first who is furthest past."""
    ends = datetime.max.replace(tzinfo=UTC)
    return sorted(over, key=lambda use: (use.resets_at or ends, use.spent - use.value), reverse=True)


def _words(use: Use) -> str:
    until = f" until {minute_words(timezone.localtime(use.resets_at))}" if use.resets_at and use.value else ""
    limit = limit_words("budget", use.limit.window, use.value)
    if not use.value:
        return f"{use.subject} may spend nothing with a budget of {limit}: calls that cost anything are refused."
    return f"{use.subject} has already spent {display_usd(use.spent)} of {limit}: calls are refused{until}."
