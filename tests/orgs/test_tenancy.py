"""A view loads one thing by its id through orgs/lookups.py or a function like those, never from the table itself."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
APPS = ("analytics", "billing", "guardrails", "notifications", "orgs", "proxy")
SHORTCUTS = {"get_object_or_404", "get_list_or_404", "aget_object_or_404", "aget_list_or_404"}
BY_ID = {"get", "aget", "get_or_create", "in_bulk", "raw", "update_or_create"}
MANAGERS = {"objects", "_default_manager", "_base_manager"}


def view_modules() -> list[Path]:
    found = (path for app in APPS for path in (ROOT / app).rglob("*.py"))
    return [path for path in found if {"views", "api"} & {path.stem, path.parent.name} or path.stem.endswith("_views")]


def loads_past_the_door(source: str) -> Iterator[str]:
    """Places that read a table: `X.objects`, `get_object_or_404`, a queryset's `.get(pk=…)`."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Attribute(attr=name) if name in MANAGERS:
                yield f"line {node.lineno}: .{name}"
            case ast.Name(id=name) | ast.alias(name=name) if name in SHORTCUTS:
                yield f"line {node.lineno}: {name}"
            case ast.Call(func=ast.Attribute(attr=name), keywords=keywords) if name in BY_ID:
                if {"pk", "id"} & {keyword.arg for keyword in keywords}:
                    yield f"line {node.lineno}: .{name}(pk=…)"


@pytest.mark.parametrize("path", view_modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_view_reads_a_table_itself(path: Path) -> None:
    assert list(loads_past_the_door(path.read_text())) == []


def test_the_views_of_all_apps_are_looked_at() -> None:
    assert ROOT / "orgs" / "views.py" in view_modules()


@pytest.mark.parametrize(
    "source",
    [
        "ApiKey.objects.get(pk=1)",
        "ApiKey.objects.filter(organization=o)",
        "ApiKey._default_manager.all()",
        "from django.shortcuts import get_object_or_404",
        "key = get_object_or_404(ApiKey, pk=key_id)",
        "group.api_keys.get(pk=key_id)",
        "await group.api_keys.aget(id=key_id)",
    ],
)
def test_each_way_past_the_door_is_seen(source: str) -> None:
    wrapped = f"async def view():\n    {source}"
    assert list(loads_past_the_door(wrapped))


@pytest.mark.parametrize(
    "source", ["access_key_by_id(request.actor, key_id, P.MANAGE_KEYS)", "request.GET.get('q')", "key.get_absolute_url()"]
)
def test_ordinary_code_is_left_alone(source: str) -> None:
    assert not list(loads_past_the_door(source))
