"""The API's OpenAPI document, `/api/v1/openapi.json`, and a page that shows it without a line of script."""

from __future__ import annotations

from functools import cache
from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_safe
from drf_spectacular.generators import SchemaGenerator

from orgs import tokens
from orgs.doors import public_view

METHODS = ("get", "post", "patch", "put", "delete")


@cache
def document() -> dict[str, Any]:
    """OpenAPI 3.1. The routes of a process never change."""
    generator = SchemaGenerator()  # type: ignore[no-untyped-call]
    found: dict[str, Any] = generator.get_schema(request=None, public=True)  # type: ignore[no-untyped-call]
    return found


@require_safe
@public_view
def openapi(request: HttpRequest) -> HttpResponse:
    return JsonResponse(document())


@require_safe
@public_view
def page(request: HttpRequest) -> HttpResponse:
    return render(request, "api/document.html", {"sections": sections(), "info": document()["info"]})


@csrf_exempt
@public_view
def absent(request: HttpRequest) -> HttpResponse:
    """A script that mistakes an address gets no page of the console."""
    message = "There is no such route. Those that are stand in /api/v1/openapi.json."
    return JsonResponse({"error": {"code": "not_found", "message": message, "param": None}}, status=404)


def sections() -> list[dict[str, Any]]:
    """Operations by what they are about, in the order of their paths."""
    found: dict[str, list[dict[str, Any]]] = {}
    for path, item in document()["paths"].items():
        for method in METHODS:
            if method in item:
                found.setdefault(_about(path), []).append(_shown(method, path, item[method]))
    return [{"name": name, "operations": operations} for name, operations in found.items()]


def _about(path: str) -> str:
    """ "/api/v1/organizations/{org}/audit-events/{sequence}" → "Audit events"."""
    parts = [part for part in path.split("/")[3:] if not part.startswith("{")]
    return tokens.label((parts[1] if len(parts) > 1 else parts[0]).replace("-", " "))


def _shown(method: str, path: str, operation: dict[str, Any]) -> dict[str, Any]:
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
    answers = {code: one for code, one in operation["responses"].items() if code < "300"}
    code, answer = next(iter(answers.items()))
    schema = answer.get("content", {}).get("application/json", {}).get("schema")
    return {
        "method": method.upper(),
        "path": path,
        "summary": operation.get("summary", ""),
        "parameters": [one for one in operation.get("parameters", []) if one["in"] == "query"],
        "takes": _fields(body),
        "gives": _fields(schema),
        "code": code,
    }


def _resolved(schema: dict[str, Any]) -> dict[str, Any]:
    name = schema.get("$ref", "").rpartition("/")[2]
    found: dict[str, Any] = document()["components"]["schemas"][name] if name else schema
    return found


def _fields(schema: dict[str, Any] | None) -> list[dict[str, Any]]:
    if schema is None:
        return []
    whole = _resolved(schema)
    required = whole.get("required", [])
    return [
        {"name": name, "type": _type(one), "required": name in required, "text": one.get("description", "")}
        for name, one in whole.get("properties", {}).items()
    ]


def _type(schema: dict[str, Any]) -> str:
    """In a few words: "integer or null", "list of Key"."""
    if "$ref" in schema:
        return str(schema["$ref"].rpartition("/")[2])
    if "allOf" in schema or "oneOf" in schema or "anyOf" in schema:
        return " or ".join(_type(one) for kind in ("allOf", "oneOf", "anyOf") for one in schema.get(kind, []))
    kinds = schema.get("type", "anything")
    words = " or ".join(kinds) if isinstance(kinds, list) else str(kinds)
    if "array" in words:
        return words.replace("array", f"list of {_type(schema.get('items', {}))}")
    return f"{words}, {schema['format']}" if "format" in schema else words
