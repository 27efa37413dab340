"""What analytics does while nobody waits. Every task may run twice, late, or beside itself."""

from celery import shared_task

from analytics import rollups


@shared_task
def roll_up_usage() -> None:
    rollups.roll_up_usage()
