"""What a response says of its own cost: tokens, and what tools that OpenAI runs itself took, each counted once."""

from __future__ import annotations

from typing import Any

import msgspec

from proxy.canonical.usage import Usage
from proxy.protocols import images
from proxy.protocols.counts import count

Members = dict[str, Any]


def usage_of(given: Any) -> Usage | None:
    """Disjoint kinds: `input_tokens` includes cached and cache-written tokens, `output_tokens` reasoning."""
    if not isinstance(given, dict):
        return None
    total_in, total_out = count(given.get("input_tokens")), count(given.get("output_tokens"))
    if total_in is None or total_out is None:
        return None
    into, out_of = _object(given.get("input_tokens_details")), _object(given.get("output_tokens_details"))
    read = min(count(into.get("cached_tokens")) or 0, total_in)
    written = min(count(into.get("cache_write_tokens")) or 0, total_in - read)
    return Usage(
        input_uncached=total_in - read - written,
        cache_read=read,
        cache_write_5m=written,
        output=total_out,
        reasoning=min(count(out_of.get("reasoning_tokens")) or 0, total_out),
    )


def usage_in(response: Members) -> Usage | None:
    """With what tools of OpenAI's took, which `usage` leaves out: searches, and the tokens of the model that draws."""
    usage = usage_of(response.get("usage"))
    if usage is None:
        return None
    of_tools = _object(response.get("tool_usage"))
    drawn = images.usage_of(of_tools.get("image_gen"))
    beside = (_of_the_drawer(drawn),) if drawn is not None and drawn.total else ()
    units = _searches(output_of(response), billed=_object(of_tools.get("web_search")).get("num_requests"))
    return msgspec.structs.replace(usage, beside=beside, units=units) if beside or units else usage


def taken_by_tools(items: list[Members]) -> Usage:
    """By the items of a response that is not over. How many tokens a picture took is told at the end: they are estimated."""
    drawn = [item for item in items if item.get("type") == "image_generation_call" and item.get("result")]
    beside = tuple(Usage(image_output=images.tokens_of(item.get("quality"))) for item in drawn)
    return Usage(units=_searches(items), beside=beside)


def _of_the_drawer(drawn: Usage) -> Usage:
    """A price has two rates for the model that draws, of which none is that of the one that answers: what it reads, be it
    text, costs what pictures do there."""
    return Usage(image_input=drawn.input_total, image_output=drawn.output_total)


def _searches(items: list[Members], *, billed: Any = None) -> dict[str, int]:
    """By the names of a price's units. `billed`: how many on the web the provider says that it bills. Where it does not, what
    opens a page that was found, or looks for words in it, is none.
    """
    done = [item for item in items if item.get("status") != "failed"]
    on_the_web = [item for item in done if item.get("type") == "web_search_call" and _is_search(item.get("action"))]
    told = count(billed)
    counted = {
        "web_search": len(on_the_web) if told is None else told,
        "storage_search": sum(item.get("type") == "file_search_call" for item in done),
    }
    return {unit: number for unit, number in counted.items() if number}


def _is_search(action: Any) -> bool:
    return bool(_object(action).get("type", "search") == "search")


def output_of(response: Members) -> list[Members]:
    output = response.get("output")
    return [item for item in output if isinstance(item, dict)] if isinstance(output, list) else []


def _object(value: Any) -> Members:
    return value if isinstance(value, dict) else {}
