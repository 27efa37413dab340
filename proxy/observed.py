"""How long the answers of a key and model usually are: what an observed hold covers.

The 95th percentile of the output tokens of the key's latest answers from that model. Where there are too few to tell,
nothing is said, and the worst case is held.

An answer that such a hold cut short would have been longer, by how much nobody knows: it counts twice. So where more
than one in twenty is cut the next holds grow again; counted as they are, they could only ever shrink.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

from gateway_project.lib import database, ids

LEAST_ANSWERS = 20
LATEST = 500
SINCE = timedelta(days=30)
REMEMBER_SECONDS = 60.0
MOST_REMEMBERED = 20_000

USUAL_SQL = """
SELECT count(*) AS answers, percentile_disc(0.95) WITHIN GROUP (ORDER BY output_tokens) AS usual
FROM (
    SELECT output_tokens * CASE WHEN finish_reason = 'length' AND decision ? 'observed_cap' THEN 2 ELSE 1 END AS output_tokens
    FROM billing_usagerecord
    WHERE api_key_id = %(key)s AND call_id >= %(since)s AND requested_model = %(model)s
      AND (status = 'ok' OR error_code = 'hold_used_up') AND NOT decision ? 'degraded'
    ORDER BY call_id DESC LIMIT %(latest)s
) AS latest
"""

_known: dict[tuple[int, str], tuple[float, int | None]] = {}


async def usual_output(key_id: int, model: str) -> int | None:
    """Output tokens, at least 1; None where that is not known, or cannot be read at the moment."""
    read_at, usual = _known.get((key_id, model), (float("-inf"), None))
    if time.monotonic() - read_at < REMEMBER_SECONDS:
        return usual
    since = ids.first_id_at(datetime.now(UTC) - SINCE)
    parameters = {"key": key_id, "model": model, "since": since, "latest": LATEST}
    try:
        row = (await database.rows(USUAL_SQL, parameters))[0]
    except database.DatabaseUnavailable:
        return usual
    found = max(1, row["usual"]) if row["answers"] >= LEAST_ANSWERS else None
    if len(_known) >= MOST_REMEMBERED:
        _known.clear()
    _known[key_id, model] = (time.monotonic(), found)
    return found
