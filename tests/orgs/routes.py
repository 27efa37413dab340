"""Every route of a URLconf, one by one."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from django.urls import URLPattern, URLResolver, get_resolver


class Route(NamedTuple):
    """`path` is "/o/<slug:org>/keys/", `arguments` the names in it; `name` is the path where the route has no name."""

    path: str
    name: str
    view: Callable[..., object]
    arguments: frozenset[str]


def routes_of(urlconf: str) -> list[Route]:
    """Of two with one path Django takes the first, so the second is none."""
    every = _walk(get_resolver(urlconf), path="/", namespaces=(), arguments=frozenset())
    first: dict[str, Route] = {}
    for route in every:
        first.setdefault(route.path, route)
    return list(first.values())


def _walk(resolver: URLResolver, *, path: str, namespaces: tuple[str, ...], arguments: frozenset[str]) -> Iterator[Route]:
    for pattern in resolver.url_patterns:
        here, known = path + str(pattern.pattern).removeprefix("^"), arguments | set(pattern.pattern.converters)
        if isinstance(pattern, URLPattern):
            name = ":".join((*namespaces, pattern.name)) if pattern.name else here
            yield Route(here, name, pattern.callback, known)
        else:
            inside = (*namespaces, pattern.namespace) if pattern.namespace else namespaces
            yield from _walk(pattern, path=here, namespaces=inside, arguments=known)
