"""Policies: named, reusable sets of limits, bound to nodes, members, keys and applications."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.utils import timezone

from orgs.models import ApiKey, Application, Group, Organization, User


class Policy(models.Model):
    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="policies")
    name = models.CharField(max_length=120)
    # A policy made by a form that sets one object's own limits; edited there and nowhere else.
    dedicated = models.BooleanField(default=False)
    created_at = models.DateTimeField(default=timezone.now)

    def __str__(self) -> str:
        return self.name


class Limit(models.Model):
    class Kind(models.TextChoices):
        BUDGET = "budget", "Budget"
        RPM = "rpm", "Requests per minute"

    class Window(models.TextChoices):
        DAY = "day", "per day"
        MONTH = "month", "per month"
        TOTAL = "total", "in total"
        MINUTE = "minute", "per minute"

    policy = models.ForeignKey(Policy, on_delete=models.CASCADE, related_name="limits")
    kind = models.CharField(max_length=20, choices=Kind)
    window = models.CharField(max_length=10, choices=Window)
    # Nano-dollars for a budget, a count for a rate.
    value = models.BigIntegerField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["policy", "kind", "window"], name="one_limit_of_a_kind_per_policy"),
            models.CheckConstraint(condition=Q(value__gte=0), name="limit_not_negative"),
            models.CheckConstraint(
                condition=Q(kind="rpm", window="minute") | (Q(kind="budget") & ~Q(window="minute")),
                name="limit_window_fits_its_kind",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.window}: {self.value}"


class Binding(models.Model):
    """A policy applied to one subject. The root group stands for the whole organisation."""

    policy = models.ForeignKey(Policy, on_delete=models.CASCADE, related_name="bindings")
    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="bindings")
    group = models.ForeignKey(Group, on_delete=models.CASCADE, null=True, related_name="bindings")
    member = models.ForeignKey(User, on_delete=models.CASCADE, null=True, related_name="bindings")
    api_key = models.ForeignKey(ApiKey, on_delete=models.CASCADE, null=True, related_name="bindings")
    application = models.ForeignKey(Application, on_delete=models.CASCADE, null=True, related_name="bindings")
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=(
                    Q(group__isnull=False, member=None, api_key=None, application=None)
                    | Q(group=None, member__isnull=False, api_key=None, application=None)
                    | Q(group=None, member=None, api_key__isnull=False, application=None)
                    | Q(group=None, member=None, api_key=None, application__isnull=False)
                ),
                name="binding_has_exactly_one_subject",
            ),
            models.UniqueConstraint(
                fields=["policy", "organization", "group", "member", "api_key", "application"],
                name="policy_bound_once_to_a_subject",
                nulls_distinct=False,
            ),
        ]

    def __str__(self) -> str:
        return f"{self.policy} on {self.group or self.member or self.api_key or self.application}"
