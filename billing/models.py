"""Prices, the usage ledger and the credit pool. Amounts are integer nano-dollars throughout."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import F, Value
from django.db.models.functions import Now
from django.utils import timezone

from orgs.models import ApiKey, Application, Organization, User


class PriceVersion(models.Model):
    """The price of one sku from a moment on. Append-only; a usage row names the version it was priced with.

    `sku` is `<provider kind>/<upstream model>` for list prices and `model:<name>` for a price declared in
    the catalogue, which wins. `rates` holds integer nano-dollars per million tokens by kind, tiers
    included; billing.pricing.Price documents its shape.
    """

    sku = models.CharField(max_length=200)
    valid_from = models.DateTimeField()
    source = models.CharField(max_length=40)
    rates = models.JSONField()
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["sku", "valid_from"], name="one_price_per_sku_and_moment")]

    def __str__(self) -> str:
        return f"{self.sku} from {self.valid_from:%Y-%m-%d}"


class UsageRecord(models.Model):
    """One row per call: the ledger. Append-only by trigger; partitioned by month on its UUIDv7 key.

    A call's id holds the time it was admitted, so an id belongs to exactly one partition, and the
    primary key alone keeps "one call, one row" true across months.
    """

    class Status(models.TextChoices):
        OK = "ok", "Completed"
        REFUSED = "refused", "Refused"
        FAILED = "failed", "Failed"
        CANCELLED = "cancelled", "Caller hung up"
        CUT = "cut", "Cut by the gateway"
        ABANDONED = "abandoned", "Abandoned"
        ADJUSTMENT = "adjustment", "Adjustment"

    call_id = models.UUIDField(primary_key=True)
    admitted_at = models.DateTimeField()
    recorded_at = models.DateTimeField(db_default=Now())
    # The inserting transaction: readers below pg_snapshot_xmin never miss a late commit.
    transaction_id = models.BigIntegerField(db_index=True)

    organization = models.ForeignKey(
        Organization, on_delete=models.PROTECT, related_name="+", db_constraint=False, db_index=False
    )
    # The tree path at the time of the call, levels 0 (the root) to 4.
    group0_id = models.BigIntegerField()
    group1_id = models.BigIntegerField(null=True)
    group2_id = models.BigIntegerField(null=True)
    group3_id = models.BigIntegerField(null=True)
    group4_id = models.BigIntegerField(null=True)
    member = models.ForeignKey(User, on_delete=models.PROTECT, null=True, related_name="+", db_constraint=False, db_index=False)
    api_key = models.ForeignKey(ApiKey, on_delete=models.PROTECT, related_name="+", db_constraint=False, db_index=False)
    application = models.ForeignKey(
        Application, on_delete=models.PROTECT, null=True, related_name="+", db_constraint=False, db_index=False
    )
    feature = models.CharField(max_length=60, default="")
    environment = models.CharField(max_length=30, default="")

    protocol = models.CharField(max_length=30)
    streamed = models.BooleanField(default=False)
    requested_model = models.CharField(max_length=200)
    served_model = models.CharField(max_length=200, default="")
    provider = models.CharField(max_length=80, default="")
    deployment_id = models.BigIntegerField(null=True)
    route_reason = models.CharField(max_length=80, default="")
    preset = models.CharField(max_length=60, default="", db_default="")

    input_tokens = models.BigIntegerField(default=0)
    cache_read_tokens = models.BigIntegerField(default=0)
    cache_write_5m_tokens = models.BigIntegerField(default=0)
    cache_write_1h_tokens = models.BigIntegerField(default=0)
    output_tokens = models.BigIntegerField(default=0)
    reasoning_tokens = models.BigIntegerField(default=0)
    # What was counted and is not a token: image, second, character.
    units = models.JSONField(default=dict, db_default=Value({}, models.JSONField()))
    usage_estimated = models.BooleanField(default=False)

    price_version_id = models.BigIntegerField(null=True)
    # Unit prices used and the cost of each part, so that the arithmetic can be shown for ever.
    unit_prices = models.JSONField(default=dict)
    cost_parts = models.JSONField(default=dict)
    charged_nano_usd = models.BigIntegerField(default=0)
    list_nano_usd = models.BigIntegerField(default=0)
    # Served on the organisation's own provider key: nothing is charged, and the list cost counts in budgets that say so.
    byok = models.BooleanField(db_default=False)
    absorbed_nano_usd = models.BigIntegerField(default=0)
    reserved_nano_usd = models.BigIntegerField(default=0)
    # What the same tokens would have cost at the organisation's baseline model; without one nothing is compared.
    baseline_nano_usd = models.BigIntegerField(null=True)
    # What cached tokens cost less than fresh ones; less than nothing where only writing was paid for.
    cache_saving_nano_usd = models.BigIntegerField(default=0, db_default=0)

    latency_ms = models.IntegerField(null=True)
    first_token_ms = models.IntegerField(null=True)
    status = models.CharField(max_length=12, choices=Status)
    http_status = models.SmallIntegerField()
    error_code = models.CharField(max_length=60, default="")
    finish_reason = models.CharField(max_length=40, default="")
    attempt_count = models.SmallIntegerField(default=0)
    # A refused loop is one row with a count, so that it is no write attack.
    call_count = models.IntegerField(default=1)
    # Why it was refused, clamped or degraded: the limit that decided, with its figures.
    decision = models.JSONField(default=dict)
    adjusts = models.UUIDField(null=True)

    class Meta:
        indexes = [
            models.Index(fields=["organization", "-call_id"], name="usage_by_organization"),
            models.Index(fields=["api_key", "-call_id"], name="usage_by_key"),
            models.Index(fields=["member", "-call_id"], name="usage_by_member"),
            models.Index(fields=["organization", "preset", "call_id"], name="usage_by_preset", condition=~models.Q(preset="")),
        ]

    def __str__(self) -> str:
        return str(self.call_id)

    @property
    def input_total(self) -> int:
        """All tokens that went in, whatever they cost."""
        return self.input_tokens + self.cache_read_tokens + self.cache_write_5m_tokens + self.cache_write_1h_tokens


class CallAttempt(models.Model):
    """One try at one deployment."""

    pk = models.CompositePrimaryKey("call_id", "number")
    call_id = models.UUIDField()
    number = models.SmallIntegerField()
    deployment_id = models.BigIntegerField(null=True)
    provider = models.CharField(max_length=80)
    model = models.CharField(max_length=200)
    status = models.CharField(max_length=20)
    http_status = models.SmallIntegerField(null=True)
    error = models.CharField(max_length=300, default="")
    latency_ms = models.IntegerField()
    provider_nano_usd = models.BigIntegerField(default=0)

    def __str__(self) -> str:
        return f"{self.call_id} attempt {self.number}"


class LedgerWriter(models.Model):
    """Somebody who writes ledger rows: one committer of one process. A fenced one writes nothing any more (writers.py)."""

    id = models.CharField(max_length=40, primary_key=True)
    host = models.CharField(max_length=100)
    started_at = models.DateTimeField(db_default=Now())
    seen_at = models.DateTimeField(db_default=Now())
    fenced_at = models.DateTimeField(null=True)
    closed_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return self.id


class SpendBucket(models.Model):
    """What a subject was charged in 15 minutes UTC (by `recorded_at`), complete below the watermark."""

    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="+")
    subject = models.CharField(max_length=40)
    starts_at = models.DateTimeField()
    charged_nano_usd = models.BigIntegerField()
    list_nano_usd = models.BigIntegerField()
    # The part of the list cost that calls on own provider keys had.
    own_nano_usd = models.BigIntegerField(db_default=0)
    calls = models.BigIntegerField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["organization", "subject", "starts_at"], name="one_bucket_per_subject_and_quarter_hour"
            )
        ]

    def __str__(self) -> str:
        return f"{self.subject} {self.starts_at:%Y-%m-%d %H:%M}"


class SpendWatermark(models.Model):
    """One row: every ledger row of a transaction below `transaction_id` is in the buckets, no other is."""

    SINGLE: ClassVar[int] = 1

    transaction_id = models.BigIntegerField(default=0)

    def __str__(self) -> str:
        return str(self.transaction_id)


class CreditTransaction(models.Model):
    """A movement of prepaid credit; its entries sum to zero."""

    class Kind(models.TextChoices):
        TOP_UP = "top_up", "Top-up"
        USAGE = "usage", "Usage"
        REFUND = "refund", "Refund"
        ADJUSTMENT = "adjustment", "Adjustment"

    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="credit_transactions")
    kind = models.CharField(max_length=20, choices=Kind)
    note = models.CharField(max_length=200, blank=True)
    # Makes a repeated booking (a webhook told twice, a task run twice) a no-op.
    reference = models.CharField(max_length=120)
    created_by = models.ForeignKey(User, on_delete=models.PROTECT, null=True, related_name="+")
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["organization", "reference"], name="one_transaction_per_reference")]
        indexes = [models.Index(F("organization"), F("created_at").desc(), name="credit_by_organization")]

    def __str__(self) -> str:
        return f"{self.kind} {self.reference}"


class CreditEntry(models.Model):
    """One side of a movement: `pool` is what the organisation may still spend."""

    class Account(models.TextChoices):
        POOL = "pool", "Credit pool"
        FUNDING = "funding", "Funding"
        USAGE = "usage", "Usage"
        ADJUSTMENT = "adjustment", "Adjustments"

    transaction = models.ForeignKey(CreditTransaction, on_delete=models.PROTECT, related_name="entries")
    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="credit_entries")
    account = models.CharField(max_length=20, choices=Account)
    amount_nano_usd = models.BigIntegerField()

    def __str__(self) -> str:
        return f"{self.account} {self.amount_nano_usd}"
