"""Policies: named, reusable sets of limits, bound to nodes, members, keys and applications."""

from __future__ import annotations

from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q
from django.utils import timezone

from orgs.models import ApiKey, Application, Group, Organization, User


class Policy(models.Model):
    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="policies")
    name = models.CharField(max_length=120)
    description = models.CharField(max_length=300, blank=True)
    # A policy made by a form that sets one object's own limits; edited there and nowhere else.
    dedicated = models.BooleanField(default=False)
    created_at = models.DateTimeField(default=timezone.now)

    # How its budgets are applied. None: as the next policy on the way up says, in the end as DEFAULT_* below.
    clamp = models.BooleanField(null=True, blank=True)
    clamp_least_tokens = models.IntegerField(null=True, blank=True, validators=[MinValueValidator(1)])
    observed_holds = models.BooleanField(null=True, blank=True)
    # From this share of any of its budgets on, calls go to this model instead.
    degrade_percent = models.SmallIntegerField(null=True, blank=True, validators=[MinValueValidator(1), MaxValueValidator(100)])
    degrade_model = models.CharField(max_length=200, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(degrade_percent=None, degrade_model="") | (Q(degrade_percent__range=(1, 100)) & ~Q(degrade_model="")),
                name="degrading_names_share_and_model",
            )
        ]

    def __str__(self) -> str:
        return self.name


class Limit(models.Model):
    class Kind(models.TextChoices):
        BUDGET = "budget", "Budget"
        RPM = "rpm", "Requests per minute"
        TPM = "tpm", "Tokens per minute"
        RPD = "rpd", "Requests per day"
        PARALLEL = "parallel", "Parallel calls"
        MAX_TOKENS = "max_tokens", "Output tokens per call"
        KEYS = "keys", "API keys"
        SEATS = "seats", "Members"

    class Window(models.TextChoices):
        DAY = "day", "per day"
        WEEK = "week", "per week"
        MONTH = "month", "per month"
        QUARTER = "quarter", "per quarter"
        YEAR = "year", "per year"
        TOTAL = "total", "in total"
        MINUTE = "minute", "per minute"
        NOW = "now", "at any time"
        CALL = "call", "per call"

    # The windows each kind may have.
    WINDOWS: ClassVar[dict[str, tuple[str, ...]]] = {
        Kind.BUDGET: (Window.DAY, Window.WEEK, Window.MONTH, Window.QUARTER, Window.YEAR, Window.TOTAL),
        Kind.RPM: (Window.MINUTE,),
        Kind.TPM: (Window.MINUTE,),
        Kind.RPD: (Window.DAY,),
        Kind.PARALLEL: (Window.NOW,),
        Kind.MAX_TOKENS: (Window.CALL,),
        Kind.KEYS: (Window.NOW,),
        Kind.SEATS: (Window.NOW,),
    }

    policy = models.ForeignKey(Policy, on_delete=models.CASCADE, related_name="limits")
    kind = models.CharField(max_length=20, choices=Kind)
    window = models.CharField(max_length=10, choices=Window)
    # Nano-dollars for a budget, else a count.
    value = models.BigIntegerField()
    # A budget: whether calls on the organisation's own provider keys count in it, at list prices.
    counts_byok = models.BooleanField(db_default=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["policy", "kind", "window"], name="one_limit_of_a_kind_per_policy"),
            models.CheckConstraint(condition=Q(value__gte=0), name="limit_not_negative"),
            models.CheckConstraint(condition=Q(counts_byok=False) | Q(kind="budget"), name="only_budgets_count_own_keys"),
            models.CheckConstraint(
                condition=(
                    Q(kind="budget", window__in=("day", "week", "month", "quarter", "year", "total"))
                    | Q(kind__in=("rpm", "tpm"), window="minute")
                    | Q(kind="rpd", window="day")
                    | Q(kind__in=("parallel", "keys", "seats"), window="now")
                    | Q(kind="max_tokens", window="call")
                ),
                name="limit_window_fits_its_kind",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.window}: {self.value}"


class Rule(models.Model):
    """A list of what may be used, or may not. An empty list restricts nothing.

    Lists of what is allowed intersect along a path; what any list blocks stays blocked.
    """

    class Kind(models.TextChoices):
        MODELS = "models", "Allowed models"
        BLOCKED_MODELS = "blocked_models", "Blocked models"
        PROVIDERS = "providers", "Allowed providers"
        ADDRESSES = "addresses", "Allowed addresses"
        MEMBERS = "members", "Allowed members"

    policy = models.ForeignKey(Policy, on_delete=models.CASCADE, related_name="rules")
    kind = models.CharField(max_length=20, choices=Kind)
    # Names of models (`*` and `?` as in file names) or providers, CIDR networks, or ids of users, as text.
    entries = ArrayField(models.CharField(max_length=200), default=list, blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["policy", "kind"], name="one_rule_of_a_kind_per_policy")]

    def __str__(self) -> str:
        return f"{self.kind}: {', '.join(self.entries)}"


class Subject(models.Model):
    """What a policy, or an exception to one, applies to: exactly one of four. The root group stands for the organisation."""

    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="%(class)ss")
    group = models.ForeignKey(Group, on_delete=models.CASCADE, null=True, related_name="%(class)ss")
    member = models.ForeignKey(User, on_delete=models.CASCADE, null=True, related_name="%(class)ss")
    api_key = models.ForeignKey(ApiKey, on_delete=models.CASCADE, null=True, related_name="%(class)ss")
    application = models.ForeignKey(Application, on_delete=models.CASCADE, null=True, related_name="%(class)ss")

    class Meta:
        abstract = True

    @property
    def subject(self) -> Group | User | ApiKey | Application:
        found = self.group or self.member or self.api_key or self.application
        if found is None:
            raise ValueError("exactly one subject, says a constraint")
        return found

    @property
    def node(self) -> Group | None:
        """Where the subject stands; a member may stand at several nodes and counts for none."""
        at = self.api_key or self.application
        return self.group or (at.group if at else None)


EXACTLY_ONE_SUBJECT = (
    Q(group__isnull=False, member=None, api_key=None, application=None)
    | Q(group=None, member__isnull=False, api_key=None, application=None)
    | Q(group=None, member=None, api_key__isnull=False, application=None)
    | Q(group=None, member=None, api_key=None, application__isnull=False)
)


class Binding(Subject):
    """A policy applied to one subject, or given to each member or key below a group that has none of its own."""

    class Reach(models.TextChoices):
        SELF = "self", "the node itself"
        MEMBERS = "members", "each member below, by default"
        KEYS = "keys", "each key below, by default"

    policy = models.ForeignKey(Policy, on_delete=models.CASCADE, related_name="bindings")
    reach = models.CharField(max_length=10, choices=Reach, default=Reach.SELF)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=EXACTLY_ONE_SUBJECT, name="binding_has_exactly_one_subject"),
            models.CheckConstraint(condition=Q(reach="self") | Q(group__isnull=False), name="defaults_are_bound_to_a_group"),
            models.UniqueConstraint(
                fields=["policy", "organization", "group", "member", "api_key", "application", "reach"],
                name="policy_bound_once_to_a_subject",
                nulls_distinct=False,
            ),
        ]

    def __str__(self) -> str:
        return f"{self.policy} on {self.subject}"


class Override(Subject):
    """An exception to one limit for one subject, for a time: so much more, or what was spent does not count.

    Both raise what the limit allows by `amount` while they last. `extra` adds to the limit; `reset` forgives
    what stood in the window at that moment and ends with the window.
    """

    class Kind(models.TextChoices):
        EXTRA = "extra", "More"
        RESET = "reset", "Reset"

    limit = models.ForeignKey(Limit, on_delete=models.CASCADE, related_name="overrides")
    kind = models.CharField(max_length=10, choices=Kind)
    amount = models.BigIntegerField()
    starts_at = models.DateTimeField(default=timezone.now)
    # None: for ever (a reset of a budget in total).
    until = models.DateTimeField(null=True, blank=True)
    reason = models.CharField(max_length=300, blank=True)
    created_by = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    revoked_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=EXACTLY_ONE_SUBJECT, name="override_has_exactly_one_subject"),
            models.CheckConstraint(condition=Q(amount__gte=0), name="override_adds"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.amount} on {self.limit}"


class Request(models.Model):
    """A member asks for what the rules do not let pass; an admin above the member decides."""

    class Kind(models.TextChoices):
        MODEL = "model", "Use of a model"

    class Status(models.TextChoices):
        OPEN = "open", "Waiting"
        APPROVED = "approved", "Approved"
        DECLINED = "declined", "Declined"
        WITHDRAWN = "withdrawn", "Withdrawn"

    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="guardrail_requests")
    kind = models.CharField(max_length=10, choices=Kind)
    # The node for which it is asked: an approval reaches everything below it.
    group = models.ForeignKey(Group, on_delete=models.CASCADE, related_name="+")
    model = models.CharField(max_length=200, blank=True)
    reason = models.CharField(max_length=500, blank=True)
    requested_by = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField(default=timezone.now)
    status = models.CharField(max_length=10, choices=Status, default=Status.OPEN)
    decided_by = models.ForeignKey(User, on_delete=models.PROTECT, null=True, related_name="+")
    decided_at = models.DateTimeField(null=True)
    answer = models.CharField(max_length=500, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["organization", "group", "model"],
                condition=Q(kind="model", status__in=("open", "approved")),
                name="one_open_or_approved_request_per_model_and_node",
            )
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.model}: {self.status}"
