"""What `auto` chooses from in an organisation, and the model that savings are told against: matters of its root alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from orgs.actor import Actor
from orgs.audit import Value, audit
from orgs.errors import Refused
from orgs.models import Organization
from orgs.permissions import Permission
from orgs.services.changes import changing
from proxy import targets
from proxy.models import RoutingChoice

MOST_CANDIDATES = 12


def choice_of(organization: Organization) -> RoutingChoice:
    """As it is; where nothing was ever chosen an empty one that is not saved."""
    found = RoutingChoice.objects.filter(organization=organization).first()
    return found or RoutingChoice(organization=organization)


def add_candidate(name: str, *, by: Actor) -> None:
    """As the strongest so far. Raises Refused, NotAllowed."""
    with _choosing(by) as choice:
        found = _model(name, field="candidate")
        if found in choice.auto_candidates:
            raise Refused(f"{found} is among them already.", field="candidate")
        if len(choice.auto_candidates) >= MOST_CANDIDATES:
            raise Refused(f"At most {MOST_CANDIDATES} candidates.", field="candidate")
        choice.auto_candidates = [*choice.auto_candidates, found]


def remove_candidate(name: str, *, by: Actor) -> None:
    """Raises NotAllowed."""
    with _choosing(by) as choice:
        choice.auto_candidates = [one for one in choice.auto_candidates if one != name]


def move_candidate(name: str, *, by: Actor, stronger: bool) -> None:
    """One place towards an end; at the end it stays. Raises NotAllowed."""
    with _choosing(by) as choice:
        choice.auto_candidates = _moved(choice.auto_candidates, name, 1 if stronger else -1)


def set_baseline(name: str, *, by: Actor) -> None:
    """An empty name: nothing is compared any more. Calls before keep what they were compared with. Raises Refused, NotAllowed."""
    with _choosing(by) as choice:
        choice.baseline_model = _model(name, field="baseline") if name.strip() else ""


@contextmanager
def _choosing(by: Actor) -> Iterator[RoutingChoice]:
    with changing(by.organization):
        by.require_everywhere(Permission.MANAGE_ROUTING)
        choice = choice_of(by.organization)
        before = _facts(choice)
        yield choice
        if _facts(choice) != before:
            choice.save()
            audit("routing.changed", by=by, target=choice, before=before, after=_facts(choice))


def _moved(names: list[str], name: str, step: int) -> list[str]:
    at = names.index(name) if name in names else -1
    to = at + step
    if at < 0 or not 0 <= to < len(names):
        return names
    moved = list(names)
    moved[at], moved[to] = moved[to], moved[at]
    return moved


def _model(name: str, *, field: str) -> str:
    found = targets.declared_chat_model(name.strip())
    if found is None:
        raise Refused(f"“{name.strip()[:80]}” is no chat model that is offered here.", field=field)
    return found


def _facts(choice: RoutingChoice) -> dict[str, Value]:
    return {"candidates": list(choice.auto_candidates), "baseline": choice.baseline_model}
