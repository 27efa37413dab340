"""Money is an integer count of nano-dollars (10⁻⁹ USD): exact in Python, PostgreSQL (bigint) and Redis (HINCRBY).

Never a float. Text and `Decimal` come in through `parse_usd`, and go out through `exact_usd`
(every digit), `field_usd` (in forms) or `display_usd` (rounded once, for people).
"""

from decimal import ROUND_HALF_UP, Decimal, InvalidOperation

NANO = 1_000_000_000
MILLION = 1_000_000
# The largest amount accepted from outside: PostgreSQL's bigint ends at 9.2 billion dollars.
MAX_USD = Decimal(9_000_000_000)
# The largest that anybody may set or add: two of them still fit.
MOST_NANO_USD = 4_000_000_000 * NANO
_STEP = Decimal("1e-9")
_CENT = NANO // 100


class BadAmount(ValueError):
    """The text is not an amount of dollars with at most nine decimals."""


def parse_usd(text: str | int | Decimal) -> int:
    """Dollars as text, integer or Decimal → nano-dollars. Raises BadAmount for anything else, floats included."""
    if isinstance(text, float | bool):
        raise BadAmount(f"{text!r}: give an amount as text or Decimal, not {type(text).__name__}")
    try:
        amount = Decimal(text)
    except (InvalidOperation, TypeError) as error:
        raise BadAmount(f"{text!r} is not an amount of dollars") from error
    # copy_abs and comparisons are exact; abs and arithmetic would round to the context's 28 digits first.
    if not amount.is_finite() or amount.copy_abs() > MAX_USD:
        raise BadAmount(f"{text!r} is out of range")
    nearest = amount.quantize(_STEP)
    if nearest != amount:
        raise BadAmount(f"{text!r} has more than nine decimals")
    return int(nearest.scaleb(9))


def exact_usd(nano: int) -> str:
    """Nano-dollars → dollars with every digit and no exponent: 1500 → "0.0000015", 2000000000 → "2"."""
    sign = "-" if nano < 0 else ""
    dollars, rest = divmod(abs(nano), NANO)
    return f"{sign}{dollars}.{rest:09d}".rstrip("0").rstrip(".")


def field_usd(nano: int) -> str:
    """As it stands in a field to be changed: every digit, and two decimals at least: 100000000 → "0.10"."""
    dollars, _, decimals = exact_usd(nano).partition(".")
    return f"{dollars}.{decimals:0<2}"


def display_usd(nano: int) -> str:
    """For people: "$1,234.56"; below one dollar four decimals, and never a spent amount shown as zero."""
    amount = Decimal(nano) / NANO
    places = Decimal("0.01") if abs(amount) >= 1 or nano == 0 else Decimal("0.0001")
    if 0 < abs(amount) < Decimal("0.00005"):
        return "<$0.0001" if nano > 0 else ">-$0.0001"
    rounded = amount.quantize(places, ROUND_HALF_UP)
    return f"{'-' if rounded < 0 else ''}${abs(rounded):,}"


def limit_usd(nano: int) -> str:
    """What somebody set, for people: whole cents with two decimals, "$0.10"; what is finer as `display_usd` has it."""
    return display_usd(nano) if nano % _CENT else f"{'-' if nano < 0 else ''}${Decimal(abs(nano)) / NANO:,.2f}"


def cost_of(units: int, nano_per_million: int) -> int:
    """One part of a bill: units × price, rounded half up once. Units and prices are never negative."""
    return (units * nano_per_million + MILLION // 2) // MILLION
