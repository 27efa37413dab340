"""The credit pool: prepaid money in double entry.

Every movement has entries on two accounts that sum to zero, and a reference: the same reference told
twice is one movement. What an organisation may spend (`funded`) is all that ever flowed into its pool,
usage aside; admission compares it with lifetime spend, so booking usage later never changes a decision.
"""

from __future__ import annotations

from django.db import connection, transaction
from django.db.models import Q, QuerySet, Sum

from billing.buckets import spend_sums
from billing.models import CreditEntry, CreditTransaction
from gateway_project.lib.money import MAX_USD, NANO
from orgs import epoch
from orgs.actor import Actor
from orgs.models import Organization, User
from orgs.permissions import Permission

Account = CreditEntry.Account
Kind = CreditTransaction.Kind

# All that ever flowed into a pool is one limit, in Redis and in statements that calls wait for: it has to fit into a bigint.
MOST_FUNDED_NANO_USD = int(MAX_USD) * NANO


class NotPositive(ValueError):
    """The amount of a movement must be more than zero."""


class ReferenceTaken(ValueError):
    """The reference names another movement: another kind or another amount."""


class NotEnoughCredit(ValueError):
    """More than what is left unspent of the pool."""


class TooMuchCredit(ValueError):
    """The pool would hold more in all than counters can. `room`: nano-dollars that still fit."""

    def __init__(self, room: int) -> None:
        super().__init__(f"only {room} nano-dollars more fit into the pool")
        self.room = room


def top_up(
    organization: Organization, *, amount_nano_usd: int, reference: str, by: User | None = None, note: str = ""
) -> CreditTransaction:
    """Adds prepaid credit. Raises NotPositive, ReferenceTaken, TooMuchCredit."""
    _require_positive(amount_nano_usd)
    return _move(organization, Kind.TOP_UP, amount_nano_usd, against=Account.FUNDING, reference=reference, by=by, note=note)


def refund(
    organization: Organization, *, amount_nano_usd: int, reference: str, by: User | None = None, note: str = ""
) -> CreditTransaction:
    """Gives unspent credit back to the payer. Raises NotPositive, ReferenceTaken, NotEnoughCredit."""
    _require_positive(amount_nano_usd)
    return _move(organization, Kind.REFUND, -amount_nano_usd, against=Account.FUNDING, reference=reference, by=by, note=note)


def adjust(
    organization: Organization, *, amount_nano_usd: int, reference: str, note: str, by: User | None = None
) -> CreditTransaction:
    """Corrects the pool, up or down, with a reason. Raises NotPositive (for zero), ReferenceTaken, TooMuchCredit."""
    _require_positive(abs(amount_nano_usd))
    return _move(
        organization, Kind.ADJUSTMENT, amount_nano_usd, against=Account.ADJUSTMENT, reference=reference, by=by, note=note
    )


def balance(organization: Organization) -> int:
    """The pool in the books: what flowed in less what was booked as used (`book_usage`)."""
    return _pool(organization, usage=True)


def funded(organization: Organization) -> int:
    """The limit of the subject `pool`: everything that flowed into it and out of it, except usage."""
    return _pool(organization, usage=False)


def spent(organization: Organization) -> int:
    """All that was ever charged, by the ledger itself; calls in flight are not in it."""
    return spend_sums(organization.id, subjects=["pool"]).lifetime["pool"].charged


def available(organization: Organization) -> int:
    """What is left to spend now."""
    return funded(organization) - spent(organization)


def movements_of(organization: Organization) -> QuerySet[CreditTransaction]:
    """Each with its `amount`: nano-dollars into the pool, below zero out of it."""
    into_pool = Sum("entries__amount_nano_usd", filter=Q(entries__account=Account.POOL))
    return CreditTransaction.objects.filter(organization=organization).annotate(amount=into_pool)


def sees_credit(actor: Actor) -> bool:
    """The pool is the organisation's: for whoever may fill it from anywhere, or sees costs everywhere."""
    return actor.can_anywhere(Permission.TOP_UP) or actor.can_everywhere(Permission.VIEW_BILLING)


@transaction.atomic
def book_usage() -> int:
    """Books what the ledger has charged and the books have not, one movement per organisation → movements.

    Under the watermark's lock, so the sums are those of one watermark and only one booking runs.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT transaction_id FROM billing_spendwatermark WHERE id = 1 FOR UPDATE")
        watermark = cursor.fetchone()[0]
        cursor.execute(_UNBOOKED_SQL)
        unbooked = cursor.fetchall()
    for organization_id, amount in unbooked:
        booked = CreditTransaction.objects.create(
            organization_id=organization_id, kind=Kind.USAGE, reference=f"usage below transaction {watermark}"
        )
        _post(booked, {Account.POOL: -amount, Account.USAGE: amount})
    return len(unbooked)


_UNBOOKED_SQL = """
SELECT organization_id, (spent.amount - coalesce(booked.amount, 0))::bigint
FROM (
    SELECT organization_id, sum(charged_nano_usd) AS amount FROM billing_spendbucket WHERE subject = 'org' GROUP BY 1
) AS spent
LEFT JOIN (
    SELECT organization_id, sum(amount_nano_usd) AS amount FROM billing_creditentry WHERE account = 'usage' GROUP BY 1
) AS booked USING (organization_id)
WHERE spent.amount <> coalesce(booked.amount, 0)
ORDER BY 1
"""


@transaction.atomic
def _move(
    organization: Organization, kind: str, amount: int, *, against: str, reference: str, by: User | None, note: str
) -> CreditTransaction:
    # One movement of an organisation at a time: a refund must see what another has just taken.
    Organization.objects.select_for_update(no_key=True).get(pk=organization.pk)
    known = CreditTransaction.objects.filter(organization=organization, reference=reference).first()
    if known:
        return _same(known, kind, amount)
    if kind == Kind.REFUND and -amount > available(organization):
        raise NotEnoughCredit(f"{-amount} nano-dollars are more than what is left of the pool")
    if amount > (room := MOST_FUNDED_NANO_USD - funded(organization)):
        raise TooMuchCredit(room)
    epoch.changing(organization.pk)
    moved = CreditTransaction.objects.create(organization=organization, kind=kind, reference=reference, created_by=by, note=note)
    _post(moved, {Account.POOL: amount, against: -amount})
    return moved


def _same(known: CreditTransaction, kind: str, amount: int) -> CreditTransaction:
    moved = known.entries.filter(account=Account.POOL).aggregate(total=Sum("amount_nano_usd"))["total"]
    if (known.kind, moved) != (kind, amount):
        raise ReferenceTaken(f"{known.reference!r} is already a {known.get_kind_display().lower()} of another amount")
    return known


def _post(movement: CreditTransaction, amounts: dict[str, int]) -> None:
    if sum(amounts.values()):
        raise AssertionError(f"the entries of {movement} do not sum to zero")
    CreditEntry.objects.bulk_create(
        [
            CreditEntry(transaction=movement, organization_id=movement.organization_id, account=account, amount_nano_usd=amount)
            for account, amount in amounts.items()
        ]
    )


def _pool(organization: Organization, *, usage: bool) -> int:
    entries = CreditEntry.objects.filter(organization=organization, account=Account.POOL)
    if not usage:
        entries = entries.exclude(transaction__kind=Kind.USAGE)
    return int(entries.aggregate(total=Sum("amount_nano_usd"))["total"] or 0)


def _require_positive(amount: int) -> None:
    if amount <= 0:
        raise NotPositive(f"{amount} nano-dollars: give more than zero")
