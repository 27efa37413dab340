"""How a domain is looked at: its TXT records, and which names no organisation may have.

The servers asked are the machine's own, or those of `DNS_SERVERS`. An answer that did not come is no answer: it neither proves
nor disproves. The resolver, 5 MB of code, is loaded when a domain is looked at.
"""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING

from django.conf import settings

from orgs.errors import Refused

if TYPE_CHECKING:
    import dns.resolver

SECONDS = 5.0
LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
# Names that no registry gives away (RFC 6761, 6762, 8375 and ICANN's .internal); .test serves trials.
RESERVED = ("localhost", "local", "invalid", "onion", "arpa", "internal", "alt")
# Where anybody gets an address: nobody is behind such a domain as a whole.
PUBLIC_MAIL = frozenset(
    [
        "126.com",
        "163.com",
        "aol.com",
        "bk.ru",
        "comcast.net",
        "duck.com",
        "email.com",
        "fastmail.com",
        "fastmail.fm",
        "free.fr",
        "gmail.com",
        "gmx.at",
        "gmx.ch",
        "gmx.com",
        "gmx.de",
        "gmx.net",
        "googlemail.com",
        "hey.com",
        "hotmail.co.uk",
        "hotmail.com",
        "hotmail.de",
        "hotmail.es",
        "hotmail.fr",
        "hotmail.it",
        "hushmail.com",
        "icloud.com",
        "inbox.ru",
        "laposte.net",
        "libero.it",
        "list.ru",
        "live.co.uk",
        "live.com",
        "live.de",
        "live.fr",
        "mac.com",
        "mail.com",
        "mail.de",
        "mail.ru",
        "mailbox.org",
        "me.com",
        "msn.com",
        "naver.com",
        "orange.fr",
        "outlook.com",
        "outlook.de",
        "outlook.es",
        "outlook.fr",
        "pm.me",
        "posteo.de",
        "posteo.net",
        "privaterelay.appleid.com",
        "proton.me",
        "protonmail.ch",
        "protonmail.com",
        "qq.com",
        "rambler.ru",
        "rediffmail.com",
        "sina.com",
        "sohu.com",
        "t-online.de",
        "tuta.com",
        "tutanota.com",
        "verizon.net",
        "wanadoo.fr",
        "web.de",
        "yahoo.ca",
        "yahoo.co.in",
        "yahoo.co.jp",
        "yahoo.co.uk",
        "yahoo.com",
        "yahoo.com.br",
        "yahoo.de",
        "yahoo.es",
        "yahoo.fr",
        "yahoo.it",
        "yandex.com",
        "yandex.ru",
        "yeah.net",
        "ymail.com",
        "zoho.com",
    ]
)


class NotAnswered(Exception):
    """No server told whether the name has such records."""


def clean_domain(typed: str) -> str:
    """As it stands behind the @ of an address: lower case, in ASCII. Raises Refused."""
    name = typed.strip().rstrip(".").lower().rpartition("@")[2]
    try:
        name = name.encode("idna").decode()
    except UnicodeError as error:
        raise Refused("This is not a domain name.", field="name") from error
    labels = name.split(".")
    if len(name) > 253 or len(labels) < 2 or not all(LABEL.fullmatch(label) for label in labels) or _is_address(name):
        raise Refused("Give a domain name such as example.com.", field="name")
    if name in PUBLIC_MAIL:
        raise Refused(f"Anybody can have an address at {name}: it cannot belong to one organisation.", field="name")
    if labels[-1] in RESERVED:
        raise Refused(f"No one owns names that end in .{labels[-1]}.", field="name")
    return name


def txt_records(name: str) -> list[str]:
    """Those of the name itself. Raises NotAnswered."""
    import dns.exception
    import dns.resolver

    try:
        answer = _resolver().resolve(f"{name}.", "TXT", lifetime=SECONDS)
    except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
        return []
    except (dns.exception.DNSException, OSError) as error:
        raise NotAnswered(f"{name} was not answered for") from error
    return [b"".join(record.strings).decode("utf-8", "replace").strip() for record in answer]


def _resolver() -> dns.resolver.Resolver:
    """Without a cache: a record that was just made must be seen."""
    import dns.resolver

    if not settings.DNS_SERVERS:
        return dns.resolver.Resolver()
    resolver = dns.resolver.Resolver(configure=False)
    pairs = [server.rpartition("#") for server in settings.DNS_SERVERS]
    resolver.nameservers = [address or port for address, _, port in pairs]
    resolver.nameserver_ports = {address: int(port) for address, _, port in pairs if address}
    return resolver


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
