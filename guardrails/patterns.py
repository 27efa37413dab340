"""Names with wildcards: `*` stands for any characters, `?` for one. Case does not count. Pure.

What two patterns mean together is decided exactly: whether one says all that the other says, and whether any name at
all is in both. Networks are compared the same way.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_network

Network = IPv4Network | IPv6Network


def overlap(one: str, other: str) -> bool:
    """Whether some name fits both."""
    left, right = one.lower(), other.lower()
    # Row by row from the ends: whether the rests of both patterns, from these positions on, have a name in common.
    below: list[bool] = []
    for at in range(len(left), -1, -1):
        row = [False] * (len(right) + 1)
        for to in range(len(right), -1, -1):
            row[to] = _meet(left[at : at + 1], right[to : to + 1], below[to : to + 2], row[to + 1 : to + 2])
        below = row
    return below[0]


def _meet(left: str, right: str, below: list[bool], beside: list[bool]) -> bool:
    """`below`: one character further on the left, and on both; `beside`: one further on the right. Empty text: the end."""
    if not left and not right:
        return True
    if left == "*" or right == "*":
        skips = below[:1] if left else []
        return any(skips) or any(beside)
    return bool(left and right) and (left == right or "?" in (left, right)) and below[1]


def covers(wide: str, narrow: str) -> bool:
    """Whether every name that fits `narrow` fits `wide`. Never true wrongly; `a*` and `a?*` together are not seen as one."""
    outer, inner = wide.lower(), narrow.lower()
    reached = {0}
    for symbol in inner:
        reached = {to for at in _open(outer, reached) for to in _steps(outer, at, symbol)}
    return len(outer) in _open(outer, reached)


def _open(outer: str, reached: set[int]) -> set[int]:
    """With the positions behind stars, which may stand for nothing."""
    found = set(reached)
    for at in sorted(reached):
        while at < len(outer) and outer[at] == "*":
            at += 1
            found.add(at)
    return found


def _steps(outer: str, at: int, symbol: str) -> list[int]:
    if at == len(outer):
        return []
    if outer[at] == "*":
        return [at]
    return [at + 1] if symbol != "*" and outer[at] in ("?", symbol) else []


def all_covered(narrow: Iterable[str], *, by: Sequence[str]) -> bool:
    return all(any(covers(wide, entry) for wide in by) for entry in narrow)


def shared(lists: Sequence[Sequence[str]]) -> bool:
    """Whether some name is in every list of patterns, as far as pairs of lists can tell."""
    return all(
        any(overlap(one, other) for one in left for other in right)
        for index, left in enumerate(lists)
        for right in lists[index + 1 :]
    )


def networks(entries: Iterable[str]) -> list[Network]:
    """Raises ValueError for what is no address and no network."""
    return [ip_network(entry, strict=False) for entry in entries]


def all_inside(narrow: Iterable[str], *, of: Iterable[str]) -> bool:
    outer = networks(of)
    return all(any(_inside(network, wide) for wide in outer) for network in networks(narrow))


def shared_addresses(lists: Sequence[Sequence[str]]) -> bool:
    """Whether some address is in every list. Exact: of two networks that meet, one lies in the other."""
    common = networks(lists[0]) if lists else []
    for entries in lists[1:]:
        others = networks(entries)
        inner = [one for one in common if any(_inside(one, other) for other in others)]
        common = inner + [other for other in others if any(_inside(other, one) for one in common)]
    return bool(common) or not lists


def _inside(one: Network, other: Network) -> bool:
    if isinstance(one, IPv4Network) and isinstance(other, IPv4Network):
        return one.subnet_of(other)
    if isinstance(one, IPv6Network) and isinstance(other, IPv6Network):
        return one.subnet_of(other)
    return False
