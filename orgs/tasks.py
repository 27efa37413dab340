"""The background work of people and organisations."""

from __future__ import annotations

import smtplib
import time

import structlog
from celery import shared_task
from django.utils import timezone

from gateway_project.lib import findings
from orgs import domain_mail, invitation_mail, key_mail
from orgs.models import AnsweredRequest
from orgs.services import domains, imports
from orgs.verification import verify_all

# Of one run: what is left waits for the next. Name servers that do not answer take seconds each.
MOST_DOMAINS, MOST_SECONDS = 500, 300.0

log = structlog.get_logger(__name__)


@shared_task
def send_invitations(invitation_ids: list[int]) -> int:
    """→ how many went out. Each mail opens with a token of its own, made here and kept nowhere."""
    return sum(invitation_mail.send(invitation_id) for invitation_id in invitation_ids)


@shared_task(autoretry_for=(OSError, smtplib.SMTPException), retry_backoff=60, max_retries=5)
def tell_of_key(key_id: int) -> bool:
    """→ whether its member was told."""
    return key_mail.send(key_id)


@shared_task(autoretry_for=(OSError, smtplib.SMTPException), retry_backoff=60, max_retries=5)
def tell_of_key_change(key_id: int, change: key_mail.Change, who: str) -> bool:
    """→ whether its member was told."""
    return key_mail.send_change(key_id, change, who)


@shared_task(autoretry_for=(OSError, smtplib.SMTPException), retry_backoff=60, max_retries=5)
def tell_of_domain(domain_id: int, user_id: int) -> bool:
    """One Super Admin: nobody is told twice where the mail to another one failed. → whether there was something to tell."""
    return domain_mail.send(domain_id, user_id)


@shared_task
def invite_listed(import_id: int) -> None:
    """Given to another worker it goes on where the one before stopped."""
    imports.run(import_id)


@shared_task
def recheck_domains() -> int:
    """→ how many were looked at. Every hour, those whose turn it is."""
    ends, looked = time.monotonic() + MOST_SECONDS, 0
    for domain in domains.due(timezone.now())[:MOST_DOMAINS]:
        if time.monotonic() > ends:
            break
        domains.recheck(domain)
        looked += 1
    return looked


@shared_task
def forget_answers() -> int:
    """→ how many. Of requests to the API with an idempotency key, a day after they were answered."""
    return AnsweredRequest.objects.old().delete()[0]


@shared_task
def verify_audit() -> int:
    """→ how many faults all chains have. The page of each audit trail shows what was found."""
    broken = [verdict for verdict in verify_all() if verdict.faults]
    for verdict in broken:
        log.error("audit_chain_broken", organization=verdict.name, faults=len(verdict.faults), first=verdict.faults[0].words)
    faults = sum(len(verdict.faults) for verdict in broken)
    findings.note_faults(faults)
    return faults
