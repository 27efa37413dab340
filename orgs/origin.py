"""From where a request of the console or the API comes, as the audit trail keeps it."""

from __future__ import annotations

from ipaddress import ip_address
from typing import NamedTuple

from django.conf import settings
from django.http import HttpRequest

from gateway_project.lib.addresses import client_address

AGENT_LENGTH = 200


class Origin(NamedTuple):
    """`ip` is None where there is no address (a command, a unix socket); `agent` is the user agent, shortened."""

    ip: str | None = None
    agent: str = ""


NOWHERE = Origin()


def origin_of(request: HttpRequest) -> Origin:
    """Behind proxies that are trusted it is the address of whom they called for."""
    peer, forwarded = request.META.get("REMOTE_ADDR", ""), request.META.get("HTTP_X_FORWARDED_FOR", "")
    address = client_address(peer, forwarded_for=forwarded, trusted=settings.TRUSTED_PROXIES)
    return Origin(clean_ip(address), clean_agent(request.META.get("HTTP_USER_AGENT", "")))


def clean_agent(text: str) -> str:
    """One line of what can be printed: a header may hold any byte."""
    visible = "".join(letter if letter.isprintable() else " " for letter in text[: 4 * AGENT_LENGTH])
    return " ".join(visible.split())[:AGENT_LENGTH]


def clean_ip(text: str | None) -> str | None:
    """In the one spelling of this address, so that it hashes the same wherever it is read from; None for what is none."""
    try:
        found = ip_address(text or "")
    except ValueError:
        return None
    return str(getattr(found, "ipv4_mapped", None) or found)
