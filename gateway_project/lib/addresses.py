"""From where a request really comes: the peer of the connection, or what proxies that are trusted say of it.

Each proxy appends to `X-Forwarded-For` the address it was called from. So the list is read from its end, and the first
address that is no trusted proxy's is the caller's; whatever stands before it, anybody may have written.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

Network = IPv4Network | IPv6Network
# Some proxies append the port of the caller: 192.0.2.1:4711, [2001:db8::1]:4711.
WITH_PORT = re.compile(r"^(?:(\d+\.\d+\.\d+\.\d+)(?::\d+)?|\[([0-9A-Fa-f:.]+)\](?::\d+)?)$")


def networks(text: str) -> tuple[Network, ...]:
    """A list with commas. Raises ValueError for an entry that is neither an address nor a network."""
    return tuple(ip_network(entry.strip(), strict=False) for entry in text.split(",") if entry.strip())


def client_address(peer: str, *, forwarded_for: str, trusted: Iterable[Network]) -> str:
    """`peer`: the address that the connection comes from; '' where there is none (a unix socket), which is trusted."""
    known = tuple(trusted)
    if not known or not _is_trusted(peer, known):
        return peer
    address = peer
    for entry in reversed(forwarded_for.split(",")):
        found = WITH_PORT.sub(r"\1\2", entry.strip())
        if not found:
            continue
        address = found
        if not _is_trusted(found, known):
            break
    return address


def _is_trusted(address: str, trusted: tuple[Network, ...]) -> bool:
    if not address:
        return True
    try:
        found = ip_address(address)
    except ValueError:
        return False
    found = getattr(found, "ipv4_mapped", None) or found
    return any(found in network for network in trusted)
