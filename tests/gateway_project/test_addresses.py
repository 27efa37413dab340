"""From where a request comes: only what trusted proxies appended is believed."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_project.lib.addresses import client_address, networks

TRUSTED = networks("10.0.0.0/8, 192.0.2.7, fd00::/8")


def found(peer: str, forwarded_for: str = "") -> str:
    return client_address(peer, forwarded_for=forwarded_for, trusted=TRUSTED)


def test_a_list_of_networks_may_hold_addresses_of_both_families_and_host_bits() -> None:
    assert networks(" 10.1.2.3/8,192.0.2.7 , ,2001:db8::5/32") == (
        ip_network("10.0.0.0/8"),
        ip_network("192.0.2.7/32"),
        ip_network("2001:db8::/32"),
    )
    assert networks("") == ()


@pytest.mark.parametrize("text", ["10.0.0.0/33", "proxy.example", "10.0.0.0/8;10.1.0.0/16"])
def test_a_list_with_anything_else_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="does not appear to be"):
        networks(text)


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "expected"),
    [
        # Whoever is no trusted proxy may say what it likes.
        ("203.0.113.9", "", "203.0.113.9"),
        ("203.0.113.9", "10.0.0.1", "203.0.113.9"),
        ("203.0.113.9", "198.51.100.1, 10.0.0.1", "203.0.113.9"),
        # One trusted proxy: the last entry is the caller's, what stands before it anybody may have written.
        ("10.0.0.1", "203.0.113.9", "203.0.113.9"),
        ("10.0.0.1", "198.51.100.1, 203.0.113.9", "203.0.113.9"),
        ("10.0.0.1", "127.0.0.1,203.0.113.9", "203.0.113.9"),
        # Several.
        ("10.0.0.1", "203.0.113.9, 10.0.0.2", "203.0.113.9"),
        ("10.0.0.1", "8.8.8.8, 203.0.113.9, 192.0.2.7, 10.9.9.9", "203.0.113.9"),
        ("10.0.0.1", "203.0.113.9,,  ,10.0.0.2 ", "203.0.113.9"),
        # Nobody but proxies: the first that said anything.
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3"),
        # What is no address is nobody's: it ends the list.
        ("10.0.0.1", "203.0.113.9, unknown", "unknown"),
        ("10.0.0.1", "203.0.113.9, 999.1.1.1", "999.1.1.1"),
        ("not an address", "203.0.113.9", "not an address"),
        # A unix socket has no peer.
        ("", "203.0.113.9", "203.0.113.9"),
        ("", "", ""),
        # IPv6, and IPv4 as IPv6 writes it.
        ("fd00::1", "2001:db8::9", "2001:db8::9"),
        ("::ffff:10.0.0.1", "203.0.113.9", "203.0.113.9"),
        ("10.0.0.1", "203.0.113.9, ::ffff:10.0.0.2", "203.0.113.9"),
        ("2001:db8::1", "203.0.113.9", "2001:db8::1"),
        # With a port.
        ("10.0.0.1", "203.0.113.9:4711", "203.0.113.9"),
        ("10.0.0.1", "203.0.113.9:4711, 10.0.0.2:80", "203.0.113.9"),
        ("10.0.0.1", "[2001:db8::9]:4711", "2001:db8::9"),
        ("10.0.0.1", "[2001:db8::9]", "2001:db8::9"),
        ("10.0.0.1", "203.0.113.9:port", "203.0.113.9:port"),
    ],
)
def test_the_first_address_from_the_end_that_is_no_proxys_is_the_callers(peer: str, forwarded_for: str, expected: str) -> None:
    assert found(peer, forwarded_for) == expected


def test_without_trusted_proxies_the_peer_counts_whatever_is_said() -> None:
    for peer in ("10.0.0.1", "", "203.0.113.9"):
        assert client_address(peer, forwarded_for="198.51.100.1", trusted=()) == peer


PROXIES = st.integers(1, 2**24 - 2).map(lambda low: f"10.{low >> 16}.{low >> 8 & 255}.{low & 255}")


@given(st.lists(PROXIES, max_size=4), st.lists(st.ip_addresses().map(str) | st.text(max_size=9), max_size=4))
def test_nothing_the_caller_writes_changes_its_address(proxies: list[str], written: list[str]) -> None:
    forwarded_for = ", ".join([*(entry.replace(",", "") for entry in written), "203.0.113.9", *proxies])
    assert found("10.0.0.1", forwarded_for) == "203.0.113.9"
