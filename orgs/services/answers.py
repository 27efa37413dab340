"""What the API has answered to a request with an idempotency key (orgs/api/repeats.py)."""

from __future__ import annotations

from django.utils import timezone

from orgs.answered_models import KEPT
from orgs.models import AnsweredRequest, User


def kept_answer(key: bytes) -> AnsweredRequest | None:
    """By the digest of whose key it is; None where it was never answered, or longer ago than answers are kept."""
    return AnsweredRequest.objects.filter(key_digest=key, answered_at__gt=timezone.now() - KEPT).first()


def keep_answer(key: bytes, *, request: bytes, status: int, body: str, by: User) -> None:
    """In place of an older one. `request` is the digest of what was asked."""
    AnsweredRequest.objects.update_or_create(
        key_digest=key,
        defaults={"request_digest": request, "user": by, "status": status, "body": body, "answered_at": timezone.now()},
    )
