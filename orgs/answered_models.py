"""What the API has answered, for whoever sends a request again. Known as `orgs.models.AnsweredRequest`."""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings
from django.db import models
from django.utils import timezone

KEPT = timedelta(hours=24)


class AnsweredQuerySet(models.QuerySet["AnsweredRequest"]):
    def old(self) -> AnsweredQuerySet:
        return self.filter(answered_at__lte=timezone.now() - KEPT)


class AnsweredRequest(models.Model):
    """A change that was made, under the idempotency key that came with it. Whose key it is stands in its digest."""

    key_digest = models.BinaryField(max_length=32, primary_key=True)
    request_digest = models.BinaryField(max_length=32)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    status = models.PositiveSmallIntegerField()
    body = models.TextField(help_text="JSON, without what is given once.")
    answered_at = models.DateTimeField(default=timezone.now, db_index=True)

    objects = AnsweredQuerySet.as_manager()

    def __str__(self) -> str:
        return f"{self.status} at {self.answered_at}"
