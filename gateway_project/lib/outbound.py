"""Connections to addresses that tenants may choose: public ones only, judged at the moment of connecting.

A name is resolved once, and what is judged is the very address that the socket then connects to: no second resolution
can answer otherwise, and every spelling of an address (decimal, hexadecimal, mapped into IPv6) has become that address
by then. No proxy and no redirect is followed (`proxy.providers` does neither).

The operator may allow networks of its own, for models that tenants run beside the gateway: `OUTBOUND_ALLOWED_NETWORKS`.
"""

from __future__ import annotations

import ipaddress
import socket
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

PORTS = (443, 8443)
# Not `ipaddress.is_global`: what it says differs between versions of Python, and it lets 6to4 and multicast pass
# (https://www.iana.org/assignments/iana-ipv4-special-registry, iana-ipv6-special-registry).
DENIED_V4 = tuple(
    ipaddress.ip_network(text)
    for text in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
        "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24",
        "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
    )
)  # fmt: skip
# Of IPv6 what is allocated to be public, less what tunnels, documents or describes something else in it.
PUBLIC_V6 = ipaddress.ip_network("2000::/3")
DENIED_V6 = tuple(ipaddress.ip_network(text) for text in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"))
NAT64 = ipaddress.ip_network("64:ff9b::/96")


class AddressRefused(OSError):
    """The address is not one that tenants may have the gateway connect to."""


def is_public(address: Address) -> bool:
    if isinstance(address, ipaddress.IPv4Address):
        return not any(address in network for network in DENIED_V4)
    inner = address.ipv4_mapped or (ipaddress.IPv4Address(int(address) & 0xFFFFFFFF) if address in NAT64 else None)
    if inner is not None:
        return is_public(inner)
    return address in PUBLIC_V6 and not any(address in network for network in DENIED_V6)


def refuse(host: str, port: int) -> None:
    """`host` as a socket address holds it. Raises AddressRefused."""
    address = ipaddress.ip_address(host.partition("%")[0])
    if _is_allowed(address):
        return
    if not is_public(address) or port not in PORTS:
        raise AddressRefused(f"{address} port {port} is no public address of an HTTPS server")


def checked_socket(found: Any) -> socket.socket:
    """A socket for an address found by resolution, before anything is sent to it. Raises AddressRefused.

    `found` is a tuple of `socket.getaddrinfo`. For whatever takes a `socket_factory` (aiohttp's connector, aiohappyeyeballs),
    and asks it for each connection, those to literal addresses included.
    """
    family, kind, protocol, _, place = found
    refuse(str(place[0]), int(place[1]))
    return socket.socket(family, kind, protocol)


def why_not(url: str) -> str | None:
    """What is wrong with a base URL that a tenant types, in words; None where nothing is.

    For a clear message only: whoever connects judges the address by itself, whatever the name said here. A name that
    does not resolve now may do so later.
    """
    try:
        parts = urlsplit(url)
        port = parts.port or {"https": 443, "http": 80}.get(parts.scheme, 0)
    except ValueError:
        return "This is not a URL."
    if parts.scheme not in ("https", "http") or not parts.hostname or not url.isprintable() or " " in url:
        return "Give a URL that begins with https://."
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        return "A base URL has neither a password nor anything after ? or #."
    found = _addresses(parts.hostname, port)
    try:
        for host in found:
            refuse(host, port)
    except AddressRefused:
        return "Only public addresses can be called, on port 443 or 8443. The operator can allow others."
    is_allowed = bool(found) and all(_is_allowed(ipaddress.ip_address(host.partition("%")[0])) for host in found)
    return None if parts.scheme == "https" or is_allowed else "Give a URL that begins with https://."


def _addresses(host: str, port: int) -> list[str]:
    try:
        return [str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    except (OSError, UnicodeError):
        return []


def _is_allowed(address: Address) -> bool:
    return any(address in network for network in settings.OUTBOUND_ALLOWED_NETWORKS)
