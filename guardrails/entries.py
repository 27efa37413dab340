"""What may stand in the lists of a rule: names of models and providers, networks, members.

People write one entry per line, or several with commas between; members by their e-mail addresses. Kept are ids of
members, and networks in their usual form.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from guardrails import patterns
from guardrails.models import Rule
from orgs.errors import Refused
from orgs.models import Membership, Organization, User

# As the names of models are, and the two wildcards.
NAME = re.compile(r"[\w.:/@+*?-]{1,200}", re.ASCII)
MOST_ENTRIES = 200
# Of those that are wrong, in one sentence.
MOST_QUOTED = 10

Entries = Mapping[str, Iterable[str]]


def typed(text: str) -> list[str]:
    """Entries as people type them, each once, in their order."""
    return list(dict.fromkeys(part for part in re.split(r"[\s,;]+", text) if part))


def clean(entries: Entries, *, organization: Organization, kept: Iterable[str] = ()) -> dict[str, list[str]]:
    """Rules by kind, empty lists left out. `kept`: ids of people who may stay in a list though they have left: without the last
    of them it would restrict nobody. Raises Refused, whose field is the kind."""
    cleaned = {kind: _clean_kind(kind, list(wanted), organization, kept) for kind, wanted in entries.items()}
    return {kind: found for kind, found in cleaned.items() if found}


def people(rules: Iterable[Rule]) -> dict[str, str]:
    """Ids in lists of members → their e-mail addresses."""
    ids = {int(entry) for rule in rules if rule.kind == Rule.Kind.MEMBERS for entry in rule.entries if entry.isdigit()}
    return {str(pk): email for pk, email in User.objects.filter(pk__in=ids).values_list("pk", "email")}


def _clean_kind(kind: str, entries: list[str], organization: Organization, kept: Iterable[str]) -> list[str]:
    if kind not in Rule.Kind.values:
        raise Refused(f"There are no rules of the kind “{kind[:40]}”.")
    entries = list(dict.fromkeys(entry.strip() for entry in entries if entry.strip()))
    if len(entries) > MOST_ENTRIES:
        raise Refused(f"A list has at most {MOST_ENTRIES} entries.", field=kind)
    if kind == Rule.Kind.MEMBERS:
        return _members(entries, organization, kept)
    return _networks(entries) if kind == Rule.Kind.ADDRESSES else _names(entries, kind)


def _names(entries: list[str], kind: str) -> list[str]:
    if wrong := [entry for entry in entries if not NAME.fullmatch(entry)]:
        what = "is no name" if len(wrong) == 1 else "are no names"
        raise Refused(f"{_quoted(wrong)} {what}: use letters, digits, . : / @ + _ - and the wildcards * and ?.", field=kind)
    return entries


def _networks(entries: list[str]) -> list[str]:
    found = {entry: _network(entry) for entry in entries}
    if wrong := [entry for entry, network in found.items() if not network]:
        what = "is no address or network" if len(wrong) == 1 else "are no addresses or networks"
        raise Refused(f"{_quoted(wrong)} {what}, such as 192.0.2.7 or 10.0.0.0/8.", field="addresses")
    return list(found.values())


def _network(entry: str) -> str:
    """Empty where it is none."""
    try:
        network = patterns.networks([entry])[0]
    except ValueError:
        return ""
    return str(network.network_address) if network.num_addresses == 1 else str(network)


def _members(entries: list[str], organization: Organization, kept: Iterable[str]) -> list[str]:
    """By e-mail address, or by the id that is kept."""
    members = dict(Membership.objects.filter(organization=organization).values_list("user_id", "user__email"))
    left = {int(pk) for pk in kept} - members.keys()
    members |= dict(User.objects.filter(pk__in=left).values_list("pk", "email")) if left else {}
    known = {email: str(pk) for pk, email in members.items()} | {str(pk): str(pk) for pk in members}
    if unknown := [entry for entry in entries if entry.lower() not in known]:
        what = "is not the e-mail address of a member" if len(unknown) == 1 else "are not the e-mail addresses of members"
        raise Refused(f"{_quoted(unknown)} {what}.", field="members")
    return list(dict.fromkeys(known[entry.lower()] for entry in entries))


def _quoted(wrong: list[str]) -> str:
    """Some of them, so that a list of many is still a sentence."""
    quoted = [f"“{entry[:80]}”" for entry in wrong[:MOST_QUOTED]]
    if len(wrong) > MOST_QUOTED:
        return f"{', '.join(quoted)} and {len(wrong) - MOST_QUOTED} more"
    return " and ".join([", ".join(quoted[:-1]), quoted[-1]]) if len(quoted) > 1 else quoted[0]
