"""The arithmetic of a price: what a call costs, what it may cost at most, and how much output a budget affords.

Pure integers. A price is nano-dollars per million tokens, so a part costs tokens × price ÷ 10⁶, rounded
half up once; the total is the sum of the rounded parts.

* **Fallbacks, never zero.** A kind without a price of its own costs what its family does: cache reads
  and writes, audio and image input like input, audio and image output like output. A 1-hour write costs
  what a 5-minute one does, but twice the input where that costs more than input: so Anthropic prices Claude,
  whoever serves it (https://platform.claude.com/docs/en/about-claude/pricing), and lists seldom say it.
* **Tiers** are cliffs, as genai-prices means them (`TieredPrices`, `calc_unit_price`): where all input
  tokens together (cached ones included) are strictly more than `above`, every token of the call, output
  included, is billed at that tier's price.
* **Units.** What is not a token (image, second, character) costs count × its price; a price per minute serves for seconds,
  rounded half up once. A film's second may have a price by its resolution (`second_720p`); `second` is that of all others.
* **Bounds.** `worst_case` is never below `bill` for any split of at most that many tokens over the kinds that the
  call can have, rounding of every part included.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Literal, Protocol

import msgspec

from gateway_project.lib.money import MILLION, cost_of

# What `affordable_output` answers where output costs nothing.
UNBOUNDED = 2**53
NO_UNITS: Mapping[str, int] = MappingProxyType({})

INPUT_KINDS = ("input", "cache_read", "cache_write_5m", "cache_write_1h", "audio_input", "image_input")
TEXT_INPUT_KINDS = INPUT_KINDS[:4]
# The part of a bill that names what was read and written beside the answer.
BESIDE = "beside_the_answer"
OUTPUT_KINDS = ("output", "audio_output", "image_output")

# What a provider may bill as written to its prompt cache: nothing, for minutes only, or also for an hour.
CacheWrites = Literal["none", "short", "any"]


class Usage(Protocol):
    """Tokens in disjoint kinds; `proxy.canonical.Usage` is one. Reasoning is part of `output`: never add it."""

    @property
    def input_uncached(self) -> int: ...
    @property
    def cache_read(self) -> int: ...
    @property
    def cache_write_5m(self) -> int: ...
    @property
    def cache_write_1h(self) -> int: ...
    @property
    def output(self) -> int: ...
    @property
    def reasoning(self) -> int: ...
    @property
    def audio_input(self) -> int: ...
    @property
    def audio_output(self) -> int: ...
    @property
    def image_input(self) -> int: ...
    @property
    def image_output(self) -> int: ...
    @property
    def units(self) -> Mapping[str, int]: ...
    @property
    def beside(self) -> "Sequence[Usage]": ...


class TokenRates(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Nano-dollars per million tokens of each kind; None: falls back as the module says."""

    input: int
    output: int
    cache_read: int | None = None
    cache_write_5m: int | None = None
    cache_write_1h: int | None = None
    audio_input: int | None = None
    image_input: int | None = None
    audio_output: int | None = None
    image_output: int | None = None

    def of(self, kind: str) -> int:
        """The price in force for a kind, fallbacks applied."""
        own: int | None = getattr(self, kind)
        if own is not None:
            return own
        if kind == "cache_write_1h":
            shorter = self.of("cache_write_5m")
            return max(shorter, 2 * self.input) if shorter > self.input else shorter
        return self.output if kind in OUTPUT_KINDS else self.input


class Tier(TokenRates, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """The rates of a whole call whose input tokens, all kinds together, are more than `above`."""

    above: int


class Rates(TokenRates, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """One version of a price, as `PriceVersion.rates` stores it. `tiers` ascend by `above`.

    `request` is a flat fee per call in nano-dollars. `units` are nano-dollars per one unit of what is
    not a token (image, second, character, minute, web_search …): billed by the calls that count them.
    """

    request: int = 0
    tiers: tuple[Tier, ...] = ()
    units: dict[str, int] = {}

    @property
    def prices_writes(self) -> bool:
        """Whether anything written to a cache may have another price than input."""
        if self.cache_write_5m is not None or self.cache_write_1h is not None:
            return True
        return bool(self.tiers) and any(tier.cache_write_5m or tier.cache_write_1h for tier in self.tiers)

    def at_resolution(self, name: str) -> "Rates":
        """Of films of that resolution (`720p`): the unit `second_720p`, where it has a price, is what their seconds cost."""
        own = self.units.get(f"second_{name}")
        return self if own is None else msgspec.structs.replace(self, units={**self.units, "second": own})

    def for_input(self, tokens: int) -> TokenRates:
        """The rates of a call with so many input tokens."""
        applicable: TokenRates = self
        for tier in self.tiers:
            if tokens > tier.above:
                applicable = tier
        return applicable

    def of_units(self, counts: Mapping[str, int]) -> dict[str, tuple[int, int]]:
        """(cost, unit price) of each unit that has a price, by the name of the price."""
        found = {}
        for unit, count in counts.items():
            if count and unit in self.units:
                found[unit] = count * self.units[unit], self.units[unit]
            elif count and unit == "second" and "minute" in self.units:
                found["minute"] = (count * self.units["minute"] + 30) // 60, self.units["minute"]
        return found

    def reachable(self, tokens: int) -> list[tuple[TokenRates, int]]:
        """Each set of rates a call of at most so many input tokens may meet, with the most tokens it may have there."""
        if not self.tiers:
            return [(self, tokens)]
        levels: list[TokenRates] = [self]
        ends: list[int] = []
        for tier in self.tiers:
            if tier.above >= tokens:
                break
            levels.append(tier)
            ends.append(tier.above)
        return list(zip(levels, [*ends, tokens], strict=True))


class Price(msgspec.Struct, frozen=True, kw_only=True):
    """A version of the price of one sku. `valid_until` is when the next known version begins."""

    version_id: int
    sku: str
    rates: Rates
    valid_until: datetime | None = None


class Bill(msgspec.Struct, frozen=True):
    """`total` = sum of `parts` (nano-dollars by kind); `unit_prices` are the prices those parts were made with."""

    total: int
    parts: dict[str, int]
    unit_prices: dict[str, int]


def bill(price: Price, usage: Usage) -> Bill:
    """The exact cost of a call. Kinds with no tokens have no part; all that was done beside the answer is one part, which
    has no unit price: it is made of many."""
    parts, unit_prices = _tokens(price, usage)
    for unit, (cost, unit_price) in price.rates.of_units(usage.units).items():
        parts[unit], unit_prices[unit] = cost, unit_price
    if usage.beside:
        parts[BESIDE] = sum(sum(_tokens(price, one)[0].values()) for one in usage.beside)
    if price.rates.request:
        parts["request"] = unit_prices["request"] = price.rates.request
    return Bill(sum(parts.values()), parts, unit_prices)


def _tokens(price: Price, usage: Usage) -> tuple[dict[str, int], dict[str, int]]:
    """Parts and unit prices of what was read and written at one go."""
    counts = {
        "input": usage.input_uncached,
        "cache_read": usage.cache_read,
        "cache_write_5m": usage.cache_write_5m,
        "cache_write_1h": usage.cache_write_1h,
        "audio_input": usage.audio_input,
        "image_input": usage.image_input,
    }
    rates = price.rates.for_input(sum(counts.values()))
    counts |= {"output": usage.output, "audio_output": usage.audio_output, "image_output": usage.image_output}
    unit_prices = {kind: rates.of(kind) for kind, tokens in counts.items() if tokens}
    return {kind: cost_of(counts[kind], unit_price) for kind, unit_price in unit_prices.items()}, unit_prices


def worst_case(
    price: Price,
    *,
    input_tokens: int,
    output_tokens: int,
    n: int = 1,
    text_only: bool = False,
    writes: CacheWrites = "any",
    units: Mapping[str, int] = NO_UNITS,
) -> int:
    """The most a call of at most so many tokens and units can cost: every token at the dearest kind and tier it could meet.

    `output_tokens` is the cap of each of `n` choices; the input is billed once. `text_only` says that neither what is
    asked nor what is wanted holds audio or images, so their prices and roundings need not be feared; `writes`, which of the
    prices of cache writes must be.
    """
    kinds = _kinds(price, text_only=text_only, writes=writes)
    return _fixed(price, units) + max(
        kinds.most_input(rates, tokens) + kinds.most_output(rates, output_tokens * n)
        for rates, tokens in price.rates.reachable(input_tokens)
    )


def affordable_output(
    price: Price,
    *,
    budget: int,
    input_tokens: int,
    n: int = 1,
    text_only: bool = False,
    writes: CacheWrites = "any",
    units: Mapping[str, int] = NO_UNITS,
) -> int:
    """The largest output cap whose worst case fits the budget: the exact inverse of `worst_case`.

    −1 where not even the input is affordable; UNBOUNDED where output costs nothing.
    """
    kinds = _kinds(price, text_only=text_only, writes=writes)
    left = budget - _fixed(price, units)
    return min(
        kinds.largest_output(rates, left - kinds.most_input(rates, tokens), n)
        for rates, tokens in price.rates.reachable(input_tokens)
    )


def cache_saving(price: Price, usage: Usage, cost: Bill) -> int:
    """What the call would have cost more without the provider's prompt cache, as fresh input: less than nothing where it only
    wrote. `cost`: its bill."""
    cached = usage.cache_read + usage.cache_write_5m + usage.cache_write_1h
    if not cached:
        return 0
    rates = price.rates.for_input(usage.input_uncached + cached + usage.audio_input + usage.image_input)
    paid = sum(cost.parts.get(kind, 0) for kind in TEXT_INPUT_KINDS)
    return cost_of(usage.input_uncached + cached, rates.input) - paid


def _fixed(price: Price, units: Mapping[str, int]) -> int:
    """What does not depend on tokens."""
    counted = sum(cost for cost, _ in price.rates.of_units(units).values()) if units else 0
    return price.rates.request + counted


class Kinds(msgspec.Struct, frozen=True):
    """The kinds that the tokens of a call may turn out to be. Each part that is billed may round up by a half."""

    input: tuple[str, ...]
    output: tuple[str, ...]

    def most_input(self, rates: TokenRates, tokens: int) -> int:
        return _most(tokens, max(rates.of(kind) for kind in self.input), len(self.input))

    def most_output(self, rates: TokenRates, tokens: int) -> int:
        return _most(tokens, max(rates.of(kind) for kind in self.output), len(self.output))

    def largest_output(self, rates: TokenRates, left: int, n: int) -> int:
        """The largest cap with `most_output(cap × n) ≤ left`, from ⌊x⌋ ≤ left ⇔ x < left + 1."""
        unit_price = max(rates.of(kind) for kind in self.output)
        if left < 0:
            return -1
        if not unit_price:
            return UNBOUNDED
        room = (left + 1) * MILLION - 1 - len(self.output) * MILLION // 2
        return max(0, min(room // (unit_price * n), UNBOUNDED))


_UNWRITTEN: dict[CacheWrites, tuple[str, ...]] = {
    "none": ("cache_write_5m", "cache_write_1h"),
    "short": ("cache_write_1h",),
    "any": (),
}


def _by_writes(inputs: tuple[str, ...], outputs: tuple[str, ...]) -> dict[CacheWrites, Kinds]:
    return {
        writes: Kinds(tuple(kind for kind in inputs if kind not in unwritten), outputs)
        for writes, unwritten in _UNWRITTEN.items()
    }


ALL_KINDS = _by_writes(INPUT_KINDS, OUTPUT_KINDS)
TEXT_KINDS = _by_writes(TEXT_INPUT_KINDS, OUTPUT_KINDS[:1])


def _kinds(price: Price, *, text_only: bool, writes: CacheWrites) -> Kinds:
    """A model whose pictures have a price of their own draws unasked."""
    return (TEXT_KINDS if text_only and price.rates.image_output is None else ALL_KINDS)[writes]


def _most(tokens: int, unit_price: int, parts: int) -> int:
    """tokens × price, however the tokens are split into so many parts that each round half up."""
    return (tokens * unit_price + parts * MILLION // 2) // MILLION if tokens and unit_price else 0
