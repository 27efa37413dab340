"""What the operator's lists of people and organisations have in common: a search, a filter, pages of fifty."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar
from urllib.parse import urlencode

from django.db.models import Exists, Model, OuterRef, Q, QuerySet
from django.http import QueryDict
from django.shortcuts import get_object_or_404

from gateway_project.lib.queries import id_in, search_in
from orgs.models import Membership, Organization, User

PAGE_SIZE = 50
LAST_PAGE = 10_000
M = TypeVar("M", bound=Model)


@dataclass(frozen=True)
class Search:
    """What stands in the address. `kind` is an organisation's; empty: all."""

    text: str = ""
    frozen: bool = False
    kind: str = ""
    page: int = 1

    @classmethod
    def of(cls, query: QueryDict) -> Search:
        kind = query.get("kind", "")
        return cls(
            text=search_in(query.get("q"), 120),
            frozen=query.get("state") == "frozen",
            kind=kind if kind in Organization.Kind.values else "",
            page=min(id_in(query.get("page")) or 1, LAST_PAGE),
        )

    @property
    def active(self) -> bool:
        return bool(self.text or self.frozen or self.kind)

    def url(self, page: int) -> str:
        words = {"q": self.text, "state": "frozen" if self.frozen else "", "kind": self.kind, "page": str(page)}
        return "?" + urlencode({name: value for name, value in words.items() if value})


@dataclass(frozen=True)
class Page(Generic[M]):
    """One page of a list, and the addresses of those beside it (empty: none)."""

    rows: Sequence[M]
    newer_url: str
    older_url: str


def page_of(found: QuerySet[M], search: Search) -> Page[M]:
    start = (search.page - 1) * PAGE_SIZE
    rows = list(found[start : start + PAGE_SIZE + 1])
    newer = search.url(search.page - 1) if search.page > 1 else ""
    older = search.url(search.page + 1) if len(rows) > PAGE_SIZE else ""
    return Page(rows[:PAGE_SIZE], newer, older)


def people(search: Search) -> QuerySet[User]:
    """By address. Whoever is found by name or address, or by the name of a company they belong to."""
    found = User.objects.order_by("email")
    if search.text:
        companies = Organization.objects.filter(name__icontains=search.text, kind=Organization.Kind.COMPANY)
        member = Membership.objects.filter(user=OuterRef("pk"), organization__in=companies)
        found = found.filter(Q(email__icontains=search.text) | Q(name__icontains=search.text) | Exists(member))
    return found.filter(frozen_at__isnull=False) if search.frozen else found


def companies_of(people: Sequence[User]) -> dict[int, list[str]]:
    """The names of the companies of each, by the person's id."""
    company = Membership.objects.filter(user__in=people, organization__kind=Organization.Kind.COMPANY)
    found: dict[int, list[str]] = {}
    for user_id, name in company.order_by("organization__name").values_list("user_id", "organization__name").distinct():
        found.setdefault(user_id, []).append(name)
    return found


def organizations(search: Search) -> QuerySet[Organization]:
    """Companies first, by name."""
    found = Organization.objects.order_by("kind", "name", "pk")
    if search.text:
        found = found.filter(Q(name__icontains=search.text) | Q(slug__icontains=search.text))
    if search.kind:
        found = found.filter(kind=search.kind)
    return found.filter(frozen_at__isnull=False) if search.frozen else found


def person_by_id(user_id: int) -> User:
    """Anybody of the installation: for views behind `staff_view` only. Raises Http404."""
    return get_object_or_404(User, pk=user_id)


def organization_by_id(organization_id: int) -> Organization:
    """Any organisation: for views behind `staff_view` only. Raises Http404."""
    return get_object_or_404(Organization, pk=organization_id)
