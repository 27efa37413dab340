"""Addresses that tenants give lead to public servers only, however they are spelled, judged before anything is sent."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytest_django import Settings

from gateway_project.lib import addresses, outbound

# https://www.iana.org/assignments/iana-ipv4-special-registry and -ipv6-: one address of each block that is not public.
PRIVATE = (
    "0.0.0.1", "10.1.2.3", "100.64.0.1", "127.0.0.1", "127.255.255.254", "169.254.169.254", "172.16.0.1", "172.31.255.255",
    "192.0.0.8", "192.0.2.1", "192.88.99.1", "192.168.1.1", "198.18.0.1", "198.19.255.255", "198.51.100.1", "203.0.113.1",
    "224.0.0.1", "239.255.255.255", "255.255.255.255", "::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:10.0.0.1",
    "64:ff9b::7f00:1", "64:ff9b:1::1", "100::1", "2001::1", "2001:10::1", "2001:db8::1", "2002:7f00:1::", "3fff::1", "fc00::1",
    "fd00::1", "fe80::1", "fe80::1%lo", "fec0::1", "ff02::1", "5f00::1",
)  # fmt: skip
PUBLIC = ("1.1.1.1", "8.8.8.8", "99.255.255.255", "172.32.0.1", "2606:4700:4700::1111", "2a00::1", "64:ff9b::808:808")
# Of the loopback address, as resolvers take them.
SPELLINGS = (
    "127.0.0.1", "127.1", "127.0.1", "2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "127.255.255.254", "0", "0.0.0.0",  # noqa: S104
    "localhost", "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[0:0:0:0:0:0:0:1]", "[::]",
)  # fmt: skip


async def visits(host: str, **options: Any) -> int:
    """How many connections a server on loopback has seen after it was asked for under this name."""
    seen = 0

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal seen
        seen += 1
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(socket_factory=outbound.checked_socket, **options), trust_env=False
        ) as session:
            with contextlib.suppress(aiohttp.ClientError):
                await session.get(f"http://{host}:{port}/")
    return seen


@pytest.mark.parametrize("address", PRIVATE)
def test_what_is_not_public_is_refused(address: str) -> None:
    assert not outbound.is_public(ipaddress.ip_address(address.partition("%")[0]))
    with pytest.raises(outbound.AddressRefused):
        outbound.refuse(address, 443)


@pytest.mark.parametrize("address", PUBLIC)
def test_what_is_public_is_not_but_for_ports_that_no_https_server_has(address: str) -> None:
    outbound.refuse(address, 443)
    outbound.refuse(address, 8443)
    for port in (22, 25, 80, 5432, 6379):
        with pytest.raises(outbound.AddressRefused):
            outbound.refuse(address, port)


@given(st.ip_addresses(v=4))
def test_an_address_inside_another_is_judged_by_what_is_inside(address: ipaddress.IPv4Address) -> None:
    mapped = ipaddress.IPv6Address(f"::ffff:{address}")
    translated = ipaddress.IPv6Address(int(outbound.NAT64.network_address) + int(address))
    assert outbound.is_public(mapped) == outbound.is_public(translated) == outbound.is_public(address)


@given(st.ip_addresses())
def test_nothing_is_public_that_python_calls_private(address: Any) -> None:
    """The lists here are stricter than the standard library's, never laxer; but for NAT64, which is unwrapped."""
    if outbound.is_public(address) and address not in outbound.NAT64:
        assert not address.is_private or address.version == 6
        special = (address.is_loopback, address.is_link_local, address.is_multicast, address.is_unspecified)
        assert not any(special)


@pytest.mark.parametrize("host", SPELLINGS)
def test_no_spelling_of_loopback_connects(host: str) -> None:
    assert asyncio.run(visits(host)) == 0


def test_the_operator_can_allow_a_network(settings: Settings) -> None:
    settings.OUTBOUND_ALLOWED_NETWORKS = addresses.networks("127.0.0.0/8")
    assert asyncio.run(visits("127.0.0.1")) >= 1
    assert asyncio.run(visits("localhost")) >= 1


class Lying(aiohttp.abc.AbstractResolver):
    async def resolve(self, host: str, port: int = 0, family: Any = socket.AF_INET) -> list[Any]:
        return [{"hostname": host, "host": "127.0.0.1", "port": port, "family": family, "proto": 0, "flags": 0}]

    async def close(self) -> None:
        return None


def test_a_name_is_judged_by_the_address_that_is_connected_to() -> None:
    """Whatever a resolver says when: here the name of a tenant leads to this machine."""
    assert asyncio.run(visits("my.example", resolver=Lying())) == 0


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("ftp://example.com", "begins with https://"),
        ("example.com", "begins with https://"),
        ("https://", "begins with https://"),
        ("http://1.1.1.1:443/v1", "begins with https://"),
        ("https://me:secret@1.1.1.1/v1", "neither a password"),
        ("https://1.1.1.1/v1?key=1", "neither a password"),
        ("https://1.1.1.1/v1#x", "neither a password"),
        ("https://127.0.0.1/v1", "public addresses"),
        ("https://localhost/v1", "public addresses"),
        ("https://[::1]/v1", "public addresses"),
        ("https://2130706433/v1", "public addresses"),
        ("https://1.1.1.1:22/v1", "public addresses"),
        ("https://1.1.1.1:port/v1", "not a URL"),
        ("https://1.1.1.1:99999/v1", "not a URL"),
        ("https://1.1.1.1/v 1", "begins with https://"),
    ],
)
def test_what_is_wrong_with_a_url_is_said(url: str, says: str) -> None:
    assert says in (outbound.why_not(url) or "")


def test_a_good_url_is_taken(settings: Settings) -> None:
    assert outbound.why_not("https://1.1.1.1/v1") is None
    assert outbound.why_not("https://1.1.1.1:8443/openai/v1") is None
    settings.OUTBOUND_ALLOWED_NETWORKS = addresses.networks("127.0.0.0/8")
    assert outbound.why_not("http://127.0.0.1:11434/v1") is None
