"""What people call the subjects of a result. Kept with it: a key deleted later still has its name there."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from orgs.models import ApiKey, Application, Group, Organization, User
from proxy.simulating.result import Result, subjects_named

Named = Callable[[Organization, list[int]], Iterable[tuple[int, str]]]


def filled_in(result: Result, organization: Organization) -> Result:
    return {**result, "names": of_subjects(subjects_named(result), organization)}


def of_subjects(subjects: Iterable[str], organization: Organization) -> dict[str, str]:
    """Names by subject (guardrails/limits.py says how those look); what is gone is called by its kind and number."""
    by_letter: dict[str, list[int]] = {}
    for subject in subjects:
        if subject[1:].isdigit():
            by_letter.setdefault(subject[0], []).append(int(subject[1:]))
    found = {"org": organization.name}
    for letter, ids in by_letter.items():
        word, named = KINDS[letter]
        found |= {f"{letter}{number}": f"{word} {number}" for number in ids}
        found |= {f"{letter}{number}": name for number, name in named(organization, ids)}
    return found


def _groups(organization: Organization, ids: list[int]) -> Iterable[tuple[int, str]]:
    return [(group.pk, group.name) for group in Group.objects.filter(organization=organization, pk__in=ids)]


def _members(organization: Organization, ids: list[int]) -> Iterable[tuple[int, str]]:
    people = User.objects.filter(pk__in=ids, memberships__organization=organization).distinct()
    return [(person.pk, person.display_name) for person in people]


def _keys(organization: Organization, ids: list[int]) -> Iterable[tuple[int, str]]:
    keys = ApiKey.objects.filter(organization=organization, pk__in=ids)
    return [(key.pk, f"{key.name} …{key.last_four}") for key in keys]


def _applications(organization: Organization, ids: list[int]) -> Iterable[tuple[int, str]]:
    return Application.objects.filter(organization=organization, pk__in=ids).values_list("pk", "name")


KINDS: dict[str, tuple[str, Named]] = {
    "g": ("Group", _groups),
    "m": ("Member", _members),
    "k": ("Key", _keys),
    "a": ("Application", _applications),
}
