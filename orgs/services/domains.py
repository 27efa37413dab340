"""Domains of an organisation: added, proven by a DNS record or by mail to the postmaster, checked again, removed.

What is asked of the network is asked before the organisation is held; what is decided by it, after it was read again.
"""

from __future__ import annotations

import hmac
import secrets
import smtplib
from collections.abc import Mapping
from datetime import datetime, timedelta

from django.db import IntegrityError, transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from gateway_project.lib import crypto, redis
from orgs import domain_mail
from orgs.actor import Actor
from orgs.audit import Value, audit, audit_as
from orgs.domain_proofs import NotAnswered, clean_domain, txt_records
from orgs.errors import Refused
from orgs.mail import Message, compose
from orgs.models import Organization, User
from orgs.origin import NOWHERE
from orgs.permissions import Permission
from orgs.services.changes import changing
from orgs.services.sessions import end_all
from orgs.sso_models import Domain, SsoConnection

MOST_DOMAINS = 100
# A record that is gone is looked for more often, since it may come back.
MISSING_EVERY = timedelta(hours=1)
CODE_DIGITS = 8
# Mail to a postmaster who may never have heard of us: so many a day, whichever organisation asks.
CODES_PER_DAY = 5
TAKEN = "Another organisation here has verified {}. If it is yours, ask the operator of this installation."


def add_domain(typed: str, *, by: Actor) -> Domain:
    """Not verified yet. Raises Refused, NotAllowed."""
    name = clean_domain(typed)
    with changing(by.organization):
        _require(by)
        if by.organization.kind == Organization.Kind.PERSONAL:
            raise Refused("A personal account has no domains: create an organisation first.")
        own = Domain.objects.filter(organization=by.organization)
        if own.filter(name=name).exists():
            raise Refused(f"{name} is here already.", field="name")
        if own.count() >= MOST_DOMAINS:
            raise Refused(f"An organisation has at most {MOST_DOMAINS} domains.", field="name")
        domain = Domain.objects.create(organization=by.organization, name=name, created_by=by.user)
        audit("domain.added", by=by, target=domain)
    return domain


def check_record(domain: Domain, *, by: Actor) -> Domain:
    """Looks for the TXT record, and verifies the domain by it. Of one that was verified by it notes whether it is still there.

    Raises Refused, NotAllowed.
    """
    try:
        found = domain.txt_record in txt_records(domain.name)
    except NotAnswered as error:
        raise Refused(f"The name servers of {domain.name} did not answer. Try again in a minute.") from error
    with changing(by.organization):
        fresh = _fresh(domain, by=by)
        if found:
            _verify(fresh, Domain.Proof.DNS, by=by)
        _note(fresh, found, by=by)
    return fresh


def due(now: datetime) -> QuerySet[Domain]:
    """Those proven by a record that is to be looked for again; in no order, so that silent name servers keep nobody waiting."""
    proven = Domain.objects.filter(verified_at__isnull=False, proof=Domain.Proof.DNS)
    old = Q(checked_at=None) | Q(checked_at__lt=now - Domain.CHECKED_EVERY)
    waited_for = Q(missing_since__isnull=False, checked_at__lt=now - MISSING_EVERY)
    return proven.filter(old | waited_for).select_related("organization").order_by("?")


def recheck(domain: Domain) -> None:
    """By the gateway itself. Without an answer nothing is known, and nothing changes."""
    try:
        found = domain.txt_record in txt_records(domain.name)
    except NotAnswered:
        return
    if found and domain.missing_since is None:
        Domain.objects.filter(pk=domain.pk).update(checked_at=timezone.now())
        return
    with changing(domain.organization):
        fresh = Domain.objects.filter(pk=domain.pk).select_related("organization").first()
        if fresh is not None and fresh.verified_at and fresh.proof == Domain.Proof.DNS:
            _note(fresh, found, by=None)


def send_code(domain: Domain, *, by: Actor) -> Domain:
    """Mails a code to the postmaster. Raises Refused, NotAllowed."""
    code = f"{secrets.randbelow(10**CODE_DIGITS):0{CODE_DIGITS}}"
    with changing(by.organization):
        fresh = _fresh(domain, by=by)
        if fresh.verified_at:
            raise Refused(f"{fresh} is verified already.")
        _count_codes(fresh)
        fresh.code_digest, fresh.code_sent_at, fresh.code_attempts = _digest(fresh, code), timezone.now(), 0
        fresh.save(update_fields=["code_digest", "code_sent_at", "code_attempts"])
        audit("domain.code_sent", by=by, target=fresh, after={"to": fresh.postmaster})
    try:
        _mail_code(fresh, code, by=by)
    except (OSError, smtplib.SMTPException) as error:
        raise Refused(f"The mail to {fresh.postmaster} could not be sent. Is e-mail set up for this installation?") from error
    return fresh


def prove_by_code(domain: Domain, typed: str, *, by: Actor) -> Domain:
    """Raises Refused, NotAllowed."""
    with changing(by.organization):
        fresh = _fresh(domain, by=by)
        if not fresh.code_is_open(timezone.now()):
            raise Refused("No code is waiting for this domain any more: have a new one sent.", field="code")
        matches = hmac.compare_digest(bytes(fresh.code_digest or b""), _digest(fresh, "".join(typed.split())))
        if matches:
            fresh.code_digest = None
            _verify(fresh, Domain.Proof.EMAIL, by=by)
        else:
            fresh.code_attempts += 1
        fresh.save()
    if not matches:
        left = Domain.CODE_ATTEMPTS - fresh.code_attempts
        words = f"{left} more {'try' if left == 1 else 'tries'} for it." if left else "Have a new one sent."
        raise Refused(f"This is not the code. {words}", field="code")
    return fresh


def require_sso(domain: Domain, required: bool, *, by: Actor) -> Domain:
    """Whether members of the domain sign in by single sign-on only. Sessions that began otherwise end with the switch, those of
    Super Admins excepted. Raises Refused, NotAllowed."""
    with changing(by.organization):
        fresh = _fresh(domain, by=by)
        if required and not fresh.verified_at:
            raise Refused(f"Verify {fresh} first.")
        if required and not SsoConnection.objects.filter(organization=by.organization, enabled=True).exists():
            raise Refused("Turn a single sign-on connection on first, or nobody could sign in.")
        if fresh.sso_required != required:
            fresh.sso_required = required
            fresh.save(update_fields=["sso_required"])
            ended = _end_sessions(fresh) if required else 0
            action = "domain.sso_required" if required else "domain.sso_not_required"
            audit(action, by=by, target=fresh, after={"sessions ended": ended} if required else None)
    return fresh


def remove_domain(domain: Domain, *, by: Actor) -> None:
    """Raises Refused, NotAllowed."""
    with changing(by.organization):
        fresh = _fresh(domain, by=by)
        audit("domain.removed", by=by, target=fresh, before={"verified": bool(fresh.verified_at), "proof": fresh.proof})
        fresh.delete()


def _note(domain: Domain, found: bool, *, by: Actor | None) -> None:
    """What a look at the name servers told. A domain whose record was missing for long is proven no more.

    Whatever asks for a verified domain then passes it by: nobody is sent to single sign-on for it, nobody held to that.
    """
    now = domain.checked_at = timezone.now()
    if found:
        if domain.missing_since is not None and domain.verified_at:
            _tell("domain.record_found", domain, by)
        domain.missing_since = None
    elif domain.proof == Domain.Proof.DNS and domain.verified_at:
        if domain.missing_since is None:
            domain.missing_since = now
            _tell("domain.record_missing", domain, by, after={"counts until": (now + Domain.GRACE).isoformat()})
            domain_mail.queue(domain)
        elif domain.lapses_at is not None and domain.lapses_at <= now:
            before: dict[str, Value] = {"proof": domain.proof, "verified_at": domain.verified_at.isoformat()}
            domain.verified_at, domain.proof = None, ""
            _tell("domain.proof_lapsed", domain, by, before=before)
            domain_mail.queue(domain)
    domain.save()


def _tell(
    action: str,
    domain: Domain,
    by: Actor | None,
    *,
    before: Mapping[str, Value] | None = None,
    after: Mapping[str, Value] | None = None,
) -> None:
    """None: the gateway has looked."""
    user, origin = (by.user, by.origin) if by else (None, NOWHERE)
    audit_as(user, action, organization=domain.organization, origin=origin, target=domain, before=before, after=after)


def _verify(domain: Domain, proof: Domain.Proof, *, by: Actor) -> None:
    """Raises Refused where another organisation has it: by the database, whoever comes first."""
    if domain.verified_at:
        return
    domain.verified_at, domain.proof, domain.missing_since = timezone.now(), proof, None
    try:
        with transaction.atomic():
            domain.save(update_fields=["verified_at", "proof", "missing_since"])
    except IntegrityError as error:
        raise Refused(TAKEN.format(domain)) from error
    after: dict[str, Value] = {"proof": proof.value}
    audit("domain.verified", by=by, target=domain, after=after)


def _end_sessions(domain: Domain) -> int:
    """How many there were."""
    members = User.objects.filter(memberships__organization=domain.organization, email__iendswith=f"@{domain.name}").distinct()
    ended = 0
    for user in members:
        if not Actor.load(user, organization=domain.organization).can_everywhere(Permission.GRANT_ROLES):
            ended += end_all(user)
    return ended


def _count_codes(domain: Domain) -> None:
    """Raises Refused. By name, so that removing and adding a domain begins nothing anew."""
    if redis.counted(f"gh:domain-codes:{domain.name}", seconds=24 * 3600) > CODES_PER_DAY:
        raise Refused(f"{domain.postmaster} has been sent {CODES_PER_DAY} codes today. Use the DNS record, or go on tomorrow.")


def _mail_code(domain: Domain, code: str, *, by: Actor) -> None:
    message = Message(
        subject=f"Code for {domain}: is it {by.organization}'s?",
        paragraphs=(
            f"Somebody who runs {by.organization} on Gatehouse says that {domain} is theirs: "
            f"{by.user.display_name}, {by.user.email}.",
            "If that is right, give them this code. It works for a day:",
        ),
        code=f"{code[:4]} {code[4:]}",
        notes=("If it is not, do nothing: without the code nothing happens.",),
    )
    compose(message, to=domain.postmaster).send()


def _digest(domain: Domain, code: str) -> bytes:
    return crypto.digest(f"domain|{domain.pk}|{code}")


def _fresh(domain: Domain, *, by: Actor) -> Domain:
    _require(by)
    fresh = Domain.objects.filter(pk=domain.pk, organization=by.organization).select_related("organization").first()
    if fresh is None:
        raise Refused("There is no such domain any more.")
    return fresh


def _require(by: Actor) -> None:
    by.require_everywhere(Permission.MANAGE_SETTINGS)
