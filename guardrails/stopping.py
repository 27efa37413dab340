"""Whether a policy stops what it is about to be bound to, said before it is bound: its budget is spent there already."""

from __future__ import annotations

from datetime import datetime

from django.utils import timezone

from gateway_project.lib.money import display_usd
from guardrails.models import Binding, Policy
from guardrails.policy_pages import limit_words
from guardrails.policy_selectors import Use, uses_of
from guardrails.subjects import Subject, column_of
from orgs.models import Organization


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
    # One without an end is the longest.
    return _words(max(over, key=lambda use: (use.resets_at is None, use.resets_at or now)))


def _words(use: Use) -> str:
    until = f" until {timezone.localtime(use.resets_at):%b %d, %Y, %H:%M}" if use.resets_at and use.value else ""
    limit = limit_words("budget", use.limit.window, use.value)
    if not use.value:
        return f"{use.subject} may spend nothing with a budget of {limit}: calls that cost anything are refused."
    return f"{use.subject} has already spent {display_usd(use.spent)} of {limit}: calls are refused{until}."
