"""Rollups: what dashboards read. Derived from the ledger, and rebuilt from it at will."""

from __future__ import annotations

from typing import ClassVar

from django.db import models


class UsageRollup(models.Model):
    """Calls of one hour (by `recorded_at`, UTC) that agree in every dimension."""

    hour = models.DateTimeField()
    organization_id = models.BigIntegerField()
    group0_id = models.BigIntegerField()
    group1_id = models.BigIntegerField(null=True)
    group2_id = models.BigIntegerField(null=True)
    group3_id = models.BigIntegerField(null=True)
    group4_id = models.BigIntegerField(null=True)
    member_id = models.BigIntegerField(null=True)
    api_key_id = models.BigIntegerField()
    application_id = models.BigIntegerField(null=True)
    feature = models.CharField(max_length=60)
    environment = models.CharField(max_length=30)
    model = models.CharField(max_length=200)
    provider = models.CharField(max_length=80)
    status = models.CharField(max_length=12)
    preset = models.CharField(max_length=60, db_default="")
    # Of what `auto` chose a model for: "simple" or "complex".
    complexity = models.CharField(max_length=7, db_default="")
    calls = models.BigIntegerField()
    input_tokens = models.BigIntegerField()
    cache_read_tokens = models.BigIntegerField()
    cache_write_tokens = models.BigIntegerField()
    output_tokens = models.BigIntegerField()
    reasoning_tokens = models.BigIntegerField()
    charged_nano_usd = models.BigIntegerField()
    list_nano_usd = models.BigIntegerField()
    latency_ms_sum = models.BigIntegerField()
    # At the organisation's baseline; at list price what was compared with it; and what caches saved.
    baseline_nano_usd = models.BigIntegerField(db_default=0)
    compared_nano_usd = models.BigIntegerField(db_default=0)
    cache_saving_nano_usd = models.BigIntegerField(db_default=0)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=[
                    "organization_id", "hour", "group0_id", "group1_id", "group2_id", "group3_id", "group4_id", "member_id",
                    "api_key_id", "application_id", "feature", "environment", "model", "provider", "status", "preset",
                    "complexity",
                ],
                name="one_rollup_per_hour_and_dimensions",
                nulls_distinct=False,
            )
        ]  # fmt: skip

    def __str__(self) -> str:
        return f"{self.hour:%Y-%m-%d %H}:00 {self.model}"


class RollupWatermark(models.Model):
    """One row: every ledger row of a transaction below `transaction_id` is rolled up, no other is."""

    SINGLE: ClassVar[int] = 1

    transaction_id = models.BigIntegerField(default=0)

    def __str__(self) -> str:
        return str(self.transaction_id)
