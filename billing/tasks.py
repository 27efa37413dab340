"""What billing does while nobody waits. Every task may run twice, late, or beside itself."""

from celery import shared_task
from django.utils import timezone

from billing import buckets, credits, partitions


@shared_task
def close_spend_buckets() -> None:
    buckets.close_spend_buckets()


@shared_task
def book_usage() -> None:
    credits.book_usage()


@shared_task
def create_partitions() -> None:
    partitions.ensure_partitions(around=timezone.now())
