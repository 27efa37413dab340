"""Figures for people: compact counts, durations, ages, shares and the geometry of meters and sparklines. Pure, no Django."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta, tzinfo
from decimal import ROUND_HALF_UP, Decimal

# A figure and its unit never part at the end of a line.
NBSP = "\u00a0"
_SPELLED = {"ip": "IP", "api": "API", "zdr": "ZDR"}
# As answers of the gateway write a moment (proxy/refusals.py, proxy/explained_rules.py).
_BY_UTC = re.compile(r"\b(\d{4}-\d{2}-\d{2})(?: at)? (\d{2}:\d{2}) UTC\b")
STEPS = ((10**12, "T"), (10**9, "B"), (10**6, "M"), (10**3, "K"))


def _rounded(amount: Decimal, places: int) -> Decimal:
    return amount.quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP)


def compact(number: int) -> str:
    """Three significant digits and a unit from 10,000 up: 9,999 → "9,999", 2909000000 → "2.91 B"; 32,000 is just "32 K"."""
    if abs(number) < 10_000:
        return f"{number:,}"
    for index, (size, unit) in enumerate(STEPS):
        if abs(number) < size:
            continue
        if number % size == 0 and abs(number) < 1000 * size:
            return f"{number // size}{NBSP}{unit}"
        amount = Decimal(number) / size
        text = _rounded(amount, max(0, 3 - len(str(abs(int(amount))))))
        # 999,950 rounds up into the next unit: "1.00 M", never "1000 K".
        if abs(text) >= 1000 and index > 0:
            return f"{'-' if number < 0 else ''}1.00{NBSP}{STEPS[index - 1][1]}"
        return f"{text:,}{NBSP}{unit}"
    raise AssertionError("unreachable: the smallest unit is below 10,000")


def duration(milliseconds: int) -> str:
    """850 → "850 ms", 1920 → "1.92 s", 12300 → "12.3 s", 125000 → "2 min 5 s"."""
    if milliseconds < 1000:
        return f"{milliseconds}{NBSP}ms"
    seconds = Decimal(milliseconds) / 1000
    if milliseconds < 59_950:
        return f"{_rounded(seconds, 2 if milliseconds < 9_995 else 1)}{NBSP}s"
    minutes, rest = divmod(int(_rounded(seconds, 0)), 60)
    return f"{minutes:,}{NBSP}min" + (f" {rest}{NBSP}s" if rest else "")


def _span(delta: timedelta) -> str:
    seconds = int(delta.total_seconds())
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size}{NBSP}{unit}"
    return f"{seconds}{NBSP}s"


def ago(moment: datetime, *, now: datetime) -> str:
    """How long ago, or from now: "just now", "3 min ago", "in 5 h"; beyond four weeks the date. Both aware, in one time zone."""
    delta = now - moment
    if abs(delta) < timedelta(seconds=10):
        return "just now"
    if abs(delta) >= timedelta(days=28):
        return f"{moment:%b} {moment.day}" + ("" if moment.year == now.year else f", {moment.year}")
    return f"{_span(delta)} ago" if delta > timedelta(0) else f"in {_span(-delta)}"


def day_words(day: date) -> str:
    """ "Dec 1, 2026", as all pages and letters write a day."""
    return f"{day:%b} {day.day}, {day.year}"


def minute_words(moment: datetime) -> str:
    """ "Dec 1, 2026, 14:05", by the clock that the moment is given in."""
    return f"{day_words(moment)}, {moment:%H:%M}"


def local_words(text: str, zone: tzinfo) -> str:
    """What a sentence for callers says by UTC, "on 2026-11-30 at 23:00 UTC", by the clock of a page: "on Dec 1, 2026, 00:00"."""

    def said(found: re.Match[str]) -> str:
        return minute_words(datetime.fromisoformat(f"{found[1]}T{found[2]}Z").astimezone(zone))

    return _BY_UTC.sub(said, text)


def code_words(code: str) -> str:
    """A code for callers within a sentence: "budget_exceeded" → "budget exceeded", "ip_not_allowed" → "IP not allowed"."""
    return " ".join(_SPELLED.get(word, word) for word in code.split("_"))


def percent(part: int, whole: int) -> str:
    """A share: "62%", below ten per cent one decimal, below one two: "0.31%"; "–" where there is nothing to share."""
    if whole == 0:
        return "–"
    share = Decimal(part) * 100 / whole
    if 0 < abs(share) < Decimal("0.005"):
        return "<0.01%"
    places = 0 if abs(share) >= 10 or share == 0 else 1 if abs(share) >= 1 else 2
    return f"{_rounded(share, places)}%"


# A rise beyond this says only that the period before was hardly covered.
MOST_PERCENT = 999


def change(current: int, previous: int) -> str:
    """Against the period before: "+8.2%", "-12%", "0%"; empty where it was zero or next to nothing: no ratio says that."""
    if previous == 0:
        return ""
    share = Decimal(current - previous) * 100 / abs(previous)
    if share > MOST_PERCENT:
        return ""
    rounded = _rounded(share, 1 if abs(share) < 10 else 0)
    return f"{rounded:+,}%" if rounded else "0%"


@dataclass(frozen=True)
class Meter:
    """Widths of a limit's bar in per cent, at most 100 together, and its level: "ok", "near" (from 80 %) or "full"."""

    spent_percent: str
    held_percent: str
    used: str
    level: str


def meter(*, spent: int, held: int, limit: int) -> Meter:
    """Held money is drawn behind spent money. A limit of zero is full; a sum above the limit fills the bar."""
    whole = Decimal(max(limit, spent + held, 1))
    used = spent + held
    level = "full" if used >= limit else "near" if used * 100 >= limit * 80 else "ok"
    return Meter(
        spent_percent=str(_rounded(max(spent, 0) * 100 / whole, 2)),
        held_percent=str(_rounded(max(held, 0) * 100 / whole, 2)),
        used=percent(used, limit) if limit > 0 else "100%",
        level=level,
    )


def sparkline_points(values: Sequence[int | float], *, width: int, height: int) -> list[tuple[float, float]]:
    """Pixel positions of a line through the values, one pixel inside the box; a flat line stands on the ground."""
    if not values:
        return []
    low, high = min(values), max(values)
    reach = (high - low) or 1
    step = width / max(len(values) - 1, 1)
    return [
        (round(index * step, 1), round(height - 1 - (value - low) / reach * (height - 2), 1))
        for index, value in enumerate(values)
    ]
