"""What guardrails does while nobody waits. Every task may run twice, late, or beside itself."""

from celery import shared_task

from guardrails import generations


@shared_task
def sweep_generations() -> None:
    generations.sweep()
