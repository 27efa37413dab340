"""Where limits and money meet: guardrails ask what was spent, billing's ledger answers."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime

from billing import buckets, counts
from gateway_project.lib import database
from guardrails import spending
from guardrails.loading import Spend

# All credit ever given to a pool: what its lifetime spending is held against.
FUNDED_SQL = """
SELECT coalesce(sum(e.amount_nano_usd), 0)::bigint AS funded
FROM billing_creditentry e JOIN billing_credittransaction t ON t.id = e.transaction_id
WHERE e.organization_id = %s AND e.account = 'pool' AND t.kind <> 'usage'
"""


class LedgerSpend:
    """guardrails.admission.SpendSource over billing's books."""

    async def spend(self, *, organization_id: int, starts_by_subject: Mapping[str, Sequence[int]]) -> Spend:
        """Raises DatabaseUnavailable."""
        moments = {
            start: datetime.fromtimestamp(start / 1000, tz=UTC) for starts in starts_by_subject.values() for start in starts
        }
        parameters = buckets.spend_parameters(organization_id, subjects=starts_by_subject, starts=moments.values())
        rows = await database.rows(buckets.SPEND_SQL, parameters)
        sums = buckets.sums_from_rows(rows, starts=parameters["starts"])
        before = [
            (subject, start, sums.before[subject, moments[start]])
            for subject, starts in starts_by_subject.items()
            for start in starts
        ]
        return Spend(
            snapshot=sums.snapshot,
            spent={subject: spend.charged for subject, spend in sums.lifetime.items()},
            before={(subject, start): spend.charged for subject, start, spend in before},
            own={subject: spend.own for subject, spend in sums.lifetime.items()},
            own_before={(subject, start): spend.own for subject, start, spend in before},
        )

    async def calls(self, *, organization_id: int, subject: str, since_ms: int) -> int:
        """Raises DatabaseUnavailable."""
        rows = await database.rows(counts.CALLS_SQL, counts.calls_parameters(organization_id, subject=subject, since_ms=since_ms))
        return int(rows[0]["calls"])


SOURCE = LedgerSpend()


def spent(organization_id: int, asked: Collection[spending.Asked]) -> dict[spending.Asked, int]:
    """guardrails.spending.Reader over the same books, for the console."""
    spent = buckets.spent_since(organization_id, {(one.subject, one.since) for one in asked})
    return {one: spent[one.subject, one.since].counted(byok=one.counts_byok) for one in asked}


async def funded(organization_id: int) -> int:
    """The limit of the subject `pool`, in nano-dollars. Raises DatabaseUnavailable."""
    return int((await database.rows(FUNDED_SQL, (organization_id,)))[0]["funded"])
