"""The catalogue as a YAML file, read into typed declarations with the line of everything that is wrong.

Prices are text until they are integers: `0.25` in the file never becomes a float. Nothing here touches
the database; `proxy.catalogue` checks the declaration against it and stores it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from datetime import date
from typing import Any, NamedTuple, TypeVar

import msgspec
import yaml

from billing.pricing import Rates, Tier
from proxy import catalogue_values as values
from proxy.capabilities import CAPABILITIES
from proxy.models import Model
from proxy.providers import registry

# The file's names of the token prices (USD per million) and ours.
TOKEN_PRICES = {
    "input": "input",
    "cached_input": "cache_read",
    "cache_write": "cache_write_5m",
    "cache_write_1h": "cache_write_1h",
    "output": "output",
    "audio_input": "audio_input",
    "image_input": "image_input",
    "audio_output": "audio_output",
    "image_output": "image_output",
}
# USD per one of them.
UNIT_PRICES = ("image", "second", "minute", "character")
# Of a second of film, by the pixels of its shorter side.
FILM_PRICES = tuple(f"second_{pixels}p" for pixels in (480, 512, 540, 720, 768, 1024, 1080, 1440, 2160))
TIMEOUTS = ("connect", "first_byte", "idle", "total")

_NEEDED_PRICES = {"chat": ("input", "output"), "embedding": ("input",)}


_D = TypeVar("_D", bound=msgspec.Struct)


class Problem(NamedTuple):
    line: int
    reason: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.reason}"


class BadCatalogue(ValueError):
    """The declaration cannot be loaded; `problems` are all of them, by line. Nothing was stored."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = sorted(problems)
        super().__init__("\n".join(map(str, self.problems)))


class ProviderDeclaration(msgspec.Struct, kw_only=True):
    name: str
    kind: str = ""
    base_url: str = ""
    api_key_env: str = ""
    api_key: str = ""
    options: dict[str, Any] = {}
    line: int = 0

    def __repr__(self) -> str:
        return f"ProviderDeclaration({self.name})"  # the key must not reach a traceback


class DeploymentDeclaration(msgspec.Struct, kw_only=True):
    provider: str
    model: str
    order: int = 1
    weight: int = 1
    rpm: int | None = None
    tpm: int | None = None
    zdr: bool = False
    line: int = 0


class ModelDeclaration(msgspec.Struct, kw_only=True):
    name: str
    kind: str = "chat"
    context_window: int | None = None
    max_output_tokens: int | None = None
    capabilities: list[str] = []
    deprecated_on: date | None = None
    retires_on: date | None = None
    replaced_by: str = ""
    price: Rates | None = None
    timeout: dict[str, float] = {}
    circuit_breaker: bool = True
    strategy: str = "order"
    fallbacks: list[str] = []
    deployments: list[DeploymentDeclaration]
    line: int = 0


class Declaration(msgspec.Struct):
    providers: list[ProviderDeclaration] = []
    models: list[ModelDeclaration] = []


def read(text: str) -> tuple[Declaration, list[Problem]]:
    """What the file declares, as far as it can be understood, and everything that is wrong with it."""
    try:
        document = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        return Declaration(), [Problem(mark.line + 1 if mark else 1, f"not YAML: {error.problem or error.context}")]
    except yaml.YAMLError as error:
        return Declaration(), [Problem(1, f"not YAML: {' '.join(str(error).split())}")]
    except RecursionError:
        return Declaration(), [Problem(1, "not YAML that anybody writes: too deep")]
    if document is None:
        return Declaration(), [Problem(1, "the file declares nothing")]
    reader = _Reader()
    declaration = reader.declaration(document)
    return declaration, reader.problems


def options(text: str) -> dict[str, Any]:
    """Those of a provider, given by themselves. Raises BadValue, YAMLError, RecursionError."""
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    return {} if node is None else values.json_mapping(node)


class _Reader:
    """Turns nodes into declarations and notes what is wrong instead of stopping at the first problem."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def declaration(self, node: yaml.Node) -> Declaration:
        found = self._fields(
            node,
            of="the file",
            readers={"providers": self._list_of(self._provider), "models": self._list_of(self._model)},
        )
        declared = Declaration(found.get("providers", []), found.get("models", []))
        self._once("provider", [(provider.name, provider.line) for provider in declared.providers])
        self._once("model", [(model.name.lower(), model.line) for model in declared.models])
        return declared

    def _provider(self, node: yaml.Node) -> ProviderDeclaration | None:
        found = self._fields(
            node,
            of="a provider",
            readers={
                "name": values.slug,
                "kind": _kind_of_provider,
                "base_url": values.url,
                "api_key_env": values.environment_variable,
                "api_key": values.credential,
                "options": values.json_mapping,
            },
            required=("name", "kind"),
        )
        if "api_key" in found and "api_key_env" in found:
            self._complain(node, "give api_key or api_key_env, not both")
        if "kind" in found and not _gives(node, "base_url") and registry.provider(found["kind"]).needs_address:
            self._complain(node, f"a provider of kind {found['kind']} needs base_url")
        try:
            if "kind" in found:
                registry.provider(found["kind"]).configured(found.get("options") or {})
        except registry.BadOptions as error:
            self._complain(node, str(error))
        return self._built(ProviderDeclaration, found, node)

    def _model(self, node: yaml.Node) -> ModelDeclaration | None:
        found = self._fields(
            node,
            of="a model",
            readers={
                "name": values.text(200),
                "kind": values.one_of(Model.Kind.values),
                "context_window": values.integer(1, values.MAX_INTEGER),
                "max_output_tokens": values.integer(1, values.MAX_INTEGER),
                "capabilities": values.words(CAPABILITIES),
                "deprecated_on": values.day,
                "retires_on": values.day,
                "replaced_by": values.text(200),
                "price": self._price,
                "timeout": self._timeout,
                "circuit_breaker": values.flag,
                "strategy": values.one_of(Model.Strategy.values),
                "fallbacks": self._fallbacks,
                "deployments": self._list_of(self._deployment),
            },
            required=("name", "deployments"),
        )
        if found.get("deployments") == []:
            self._complain(node, "a model needs at least one deployment")
        if "price" in found:
            found["price"] = self._rates(found["price"], kind=found.get("kind", "chat"))
        if found.get("name") in found.get("fallbacks", []):
            self._complain(node, "a model cannot fall back to itself")
        deployments = found.get("deployments", [])
        self._once("deployment", [(f"{entry.provider} {entry.model}", entry.line) for entry in deployments])
        return self._built(ModelDeclaration, found, node)

    def _deployment(self, node: yaml.Node) -> DeploymentDeclaration | None:
        found = self._fields(
            node,
            of="a deployment",
            readers={
                "provider": values.slug,
                "model": values.text(200),
                "order": values.integer(1, values.MAX_SMALL_INTEGER),
                "weight": values.integer(1, values.MAX_SMALL_INTEGER),
                "rpm": values.integer(1, values.MAX_INTEGER),
                "tpm": values.integer(1, values.MAX_INTEGER),
                "zdr": values.flag,
            },
            required=("provider", "model"),
        )
        return self._built(DeploymentDeclaration, found, node)

    def _fallbacks(self, node: yaml.Node) -> list[str]:
        names = self._list_of(values.text(200))(node)
        if len(set(names)) < len(names):
            raise values.BadValue("must name each model once")
        return names

    def _price(self, node: yaml.Node) -> tuple[yaml.Node, dict[str, Any]]:
        if not isinstance(node, yaml.MappingNode):
            raise values.BadValue("must be a mapping such as {input: 0.25, output: 2}")
        amounts = dict.fromkeys((*TOKEN_PRICES, *UNIT_PRICES, *FILM_PRICES, "request"), values.nano_dollars)
        return node, self._fields(node, of="a price", readers={**amounts, "tiers": self._list_of(self._tier)})

    def _tier(self, node: yaml.Node) -> tuple[yaml.Node, dict[str, Any]]:
        readers = {"above": values.integer(1, values.MAX_INTEGER), **dict.fromkeys(TOKEN_PRICES, values.nano_dollars)}
        return node, self._fields(node, of="a tier", readers=readers, required=("above", "input", "output"))

    def _rates(self, price: tuple[yaml.Node, dict[str, Any]], *, kind: str) -> Rates | None:
        node, found = price
        needed = _NEEDED_PRICES.get(kind, ())
        for name in needed:
            if name not in _given(node):
                self._complain(node, f"the price of a {kind} model needs {name!r}")
        if not _given(node) and not needed:
            self._complain(node, "the price is empty")
        if dearer := [name for name in FILM_PRICES if found.get(name, 0) > found.get("second", 0)]:
            self._complain(node, f"{dearer[0]!r} must not be more than 'second', the price of every other resolution")
        tiers = found.pop("tiers", [])
        if any(name not in found for name in needed) or not all({"above", "input", "output"} <= tier.keys() for _, tier in tiers):
            return None
        thresholds = [tier["above"] for _, tier in tiers]
        if thresholds != sorted(set(thresholds)):
            self._complain(node, "tiers must ascend by 'above'")
        tokens = _token_rates(found)
        # An embedding has no output; a model sold by the image or the second may have no price per token.
        tokens.setdefault("input", 0)
        tokens.setdefault("output", tokens["input"] if kind == "embedding" else 0)
        return Rates(
            **tokens,
            request=found.get("request", 0),
            tiers=tuple(Tier(above=tier["above"], **_token_rates(tier)) for _, tier in tiers),
            units={name: found[name] for name in (*UNIT_PRICES, *FILM_PRICES) if name in found},
        )

    def _timeout(self, node: yaml.Node) -> dict[str, float]:
        return self._fields(node, of="timeout", readers=dict.fromkeys(TIMEOUTS, values.seconds))

    def _fields(
        self,
        node: yaml.Node,
        *,
        of: str,
        readers: Mapping[str, Callable[[yaml.Node], Any]],
        required: Collection[str] = (),
    ) -> dict[str, Any]:
        """The members of a mapping that could be read. A key without a value counts as left out."""
        found: dict[str, Any] = {}
        if not isinstance(node, yaml.MappingNode):
            self._complain(node, f"{of} must be a mapping of {', '.join(readers)}")
            return found
        seen: set[str] = set()
        for key, value in node.value:
            name = str(key.value)
            if name not in readers:
                self._complain(key, f"unknown key {name!r} in {of}; there are {', '.join(readers)}")
            elif name in seen:
                self._complain(key, f"{name!r} is given twice")
            elif not values.is_null(value):
                seen.add(name)
                self._read_into(found, name, value, readers[name])
        for name in required:
            if name not in seen:
                self._complain(node, f"{of} needs {name!r}")
        return found

    def _read_into(self, found: dict[str, Any], name: str, node: yaml.Node, reader: Callable[[yaml.Node], Any]) -> None:
        try:
            found[name] = reader(node)
        except values.BadValue as reason:
            self._complain(node, f"{name}: {reason}")

    def _list_of(self, reader: Callable[[yaml.Node], Any]) -> Callable[[yaml.Node], list[Any]]:
        def read_list(node: yaml.Node) -> list[Any]:
            if not isinstance(node, yaml.SequenceNode):
                raise values.BadValue("must be a list")
            return [entry for entry in map(reader, node.value) if entry is not None]

        return read_list

    def _built(self, kind: type[_D], found: dict[str, Any], node: yaml.Node) -> _D | None:
        """None where too little is known. A faulty entry is built too, to be checked against the others."""
        try:
            return kind(**found, line=values.line_of(node))
        except TypeError:
            return None

    def _once(self, what: str, named: list[tuple[str, int]]) -> None:
        first: dict[str, int] = {}
        for name, line in named:
            if name in first:
                self.problems.append(Problem(line, f"{what} {name!r} is declared twice, first in line {first[name]}"))
            first.setdefault(name, line)

    def _complain(self, node: yaml.Node, reason: str) -> None:
        self.problems.append(Problem(values.line_of(node), reason))


def _gives(node: yaml.Node, name: str) -> bool:
    """Whether it has this key, rightly or wrongly."""
    pairs = node.value if isinstance(node, yaml.MappingNode) else ()
    return any(key.value == name and not values.is_null(value) for key, value in pairs)


def _kind_of_provider(node: yaml.Node) -> str:
    kind = values.text(40)(node)
    try:
        return registry.provider(kind).kind
    except registry.UnknownKind as error:
        raise values.BadValue(str(error)) from error


def _token_rates(found: Mapping[str, Any]) -> dict[str, int]:
    return {ours: found[name] for name, ours in TOKEN_PRICES.items() if name in found}


def _given(node: yaml.Node) -> set[str]:
    """The keys that hold something, sound or not: what is wrong is not reported as missing too."""
    return {str(key.value) for key, value in node.value if not values.is_null(value)}
