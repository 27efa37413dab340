"""The reasons that the call log can be narrowed to are those that a call's row can carry, read from the code that makes them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

from analytics.reasons import REASONS
from proxy.errors import CODES
from proxy.refusals import RATES
from tests.test_layout import ROOT

PROXY = ROOT / "proxy"
# A call's way, from its first line on. What it finds in registries is reached by no name: codecs, and providers.
BEGINS = ("proxy.pipeline", "handle")
REGISTERED = ("proxy.protocols.", "proxy.providers.")

Place = tuple[str, str]


class Module(NamedTuple):
    """`defined`: functions, classes and tables by their names; `imported`: what other modules' things are called here."""

    defined: dict[str, ast.stmt]
    imported: dict[str, Place]


@cache
def modules() -> dict[str, Module]:
    return {dotted(path): module_of(ast.parse(path.read_text())) for path in PROXY.rglob("*.py")}


def dotted(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def module_of(tree: ast.Module) -> Module:
    found = Module({}, {})
    for node in tree.body:
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                found.defined[name] = node
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                found.defined[name] = node
            case ast.ImportFrom(module=str(module), names=names):
                found.imported.update({one.asname or one.name: (module, one.name) for one in names})
    return found


def named_in(node: ast.stmt, module: str) -> Iterator[Place]:
    """What a statement names: things of its own module, of others, and `module.thing`; variables of a function are its own."""
    here, leaves = modules()[module], list(ast.walk(node))
    own = {leaf.arg for leaf in leaves if isinstance(leaf, ast.arg)}
    own |= {leaf.id for leaf in leaves if isinstance(leaf, ast.Name) and isinstance(leaf.ctx, ast.Store)}
    for leaf in leaves:
        match leaf:
            case ast.Attribute(value=ast.Name(id=owner), attr=name) if owner in here.imported:
                yield ".".join(here.imported[owner]), name
            case ast.Name(id=name) if name not in own:
                yield here.imported.get(name, (module, name))


@cache
def reached() -> set[Place]:
    registered = [(name, one) for name, module in modules().items() if name.startswith(REGISTERED) for one in module.defined]
    found: set[Place] = set()
    waiting: list[Place] = [BEGINS, *registered]
    while waiting:
        place = module, name = waiting.pop()
        if place not in found and module in modules() and name in modules()[module].defined:
            found.add(place)
            waiting += named_in(modules()[module].defined[name], module)
    return found


def codes_of_calls() -> set[str]:
    """Codes of the errors that are made on a call's way; rates are refused by a table, keys by their code."""
    by_class = {leaf.__name__: code for code, leaf in CODES.items()}
    found = {rate.error.code for rate in RATES.values()}
    for module, name in reached() - {("proxy.errors", one) for one in by_class}:
        for leaf in ast.walk(modules()[module].defined[name]):
            made = leaf.func if isinstance(leaf, ast.Call) else leaf.exc if isinstance(leaf, ast.Raise) else None
            word = made.id if isinstance(made, ast.Name) else made.attr if isinstance(made, ast.Attribute) else ""
            found |= {by_class[word]} if word in by_class else set()
    keys = ast.walk(ast.parse((ROOT / "orgs" / "access.py").read_text()))
    return found | {str(leaf.value) for leaf in keys if isinstance(leaf, ast.Constant) and leaf.value in CODES}


def test_every_reason_that_is_offered_is_one_that_a_call_can_have() -> None:
    assert set(REASONS) == codes_of_calls() - {"invalid_api_key"}  # whose key nobody knows has no row
