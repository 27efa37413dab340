"""From what was asked to where it may go: the ordered deployments, the output cap and the most it can cost."""

from __future__ import annotations

import difflib
import functools
import operator
from collections.abc import Mapping, Sequence
from typing import TypedDict

import msgspec

from billing import pricing
from billing.pricing import CacheWrites
from gateway_project.lib.money import cost_of
from proxy import cache_writes
from proxy.canonical.estimate import SERVER_TOOL_TOKENS
from proxy.canonical.request import Request
from proxy.choosing import Choice
from proxy.deployments import Catalogue, Deployment, Model
from proxy.errors import BadRequest, ModelNotFound, ModelUnpriced
from proxy.protocols import openai_models
from proxy.protocols.bodies import decoded
from proxy.protocols.counts import USUAL_SEARCHES
from proxy.protocols.images import IMAGE_TOKENS

# Where neither the caller nor the catalogue bounds the output, the gateway does, and tells the provider so.
DEFAULT_MAX_OUTPUT = 16_384
# A budget that affords less output than this refuses; shorter answers are of no use to anyone.
LEAST_OUTPUT = 16
# Tiers of service that cost what the price list says, or less. Others (`priority`, which is `fast`, `ultrafast`) cost more, and
# what a vendor thinks of next nobody knows. `batch` would cost less, but no provider takes it from a caller who waits.
PRICED_TIERS = ("auto", "default", "standard", "standard_only", "on_demand", "flex", "scale")
# What an answer counts in rates of tokens before it is there, where its caller set no maximum.
USUAL_OUTPUT = 1024
# How OpenRouter's models are named that search: as if its plugin `web` had been asked for.
# https://openrouter.ai/docs/guides/features/plugins/web-search
ONLINE = ":online"
# Of a name that is mistaken, in characters: what is longer was hardly meant to be a model's.
LONGEST_MISTAKE, SLIP, MOST_COMPARED = 100, 3, 30


class _Sizes(TypedDict):
    """Of one call at one deployment, as its price is asked for the most that it costs."""

    input_tokens: int
    n: int
    text_only: bool
    writes: CacheWrites
    units: Mapping[str, int]


class Plan(msgspec.Struct, frozen=True):
    """`worst_case` and `least` in nano-dollars; `least` is None where the caller set a maximum itself.

    `max_tokens` is what must be written into the request: None where the model's own maximum applies. `tokens` is what
    counts in rates of tokens until the answer tells. `observed`: the hold covers no more than answers usually need.
    `reasons` say of each of the `deployments` why it stands where it does (proxy/choosing.py).
    """

    model: Model
    deployments: tuple[Deployment, ...]
    reasons: tuple[str, ...]
    output_cap: int
    max_tokens: int | None
    worst_case: int
    least: int | None
    tokens: int
    observed: bool = False

    @property
    def own_only(self) -> bool:
        """Whether own provider keys alone serve it: then the pool pays nothing."""
        return all(deployment.own_key_id is not None for deployment in self.deployments)

    @property
    def is_mixed(self) -> bool:
        """Whether own keys serve the model asked for, and the operator's follow."""
        own = (deployment for deployment in self.deployments if deployment.own_key_id is not None)
        return not self.own_only and any(deployment.model == self.model.name for deployment in own)

    @property
    def total_seconds(self) -> float:
        """The bound on the whole call, fallbacks and streaming included."""
        own = next((one for one in self.deployments if one.model == self.model.name), self.deployments[0])
        return own.target.timeouts.total


class Bounds(msgspec.Struct, frozen=True):
    """What policies say of one answer's length, in output tokens.

    `most`: allowed at all. `least`: where a budget affords less than that, the call is refused; None: the answer is never
    shortened. `usual`: what answers of this key and model seldom exceed, where only that shall be held. `tokens`: the
    tightest rate of tokens per minute.
    """

    most: int | None = None
    least: int | None = LEAST_OUTPUT
    usual: int | None = None
    tokens: int | None = None


def find(catalogue: Catalogue, name: str, *, kind: str = "chat") -> Model:
    """Raises ModelNotFound, and BadRequest for a model of another kind."""
    model = catalogue.find(name)
    if model is None:
        close = _closest(name, tuple(catalogue.models)) if len(name) <= LONGEST_MISTAKE else ""
        meant = f" Did you mean {close!r}?" if close else ""
        raise ModelNotFound(
            f"The model {name[:100]!r} does not exist or is not offered here; GET /v1/models lists what is.{meant}", param="model"
        )
    if model.kind not in {kind, ""}:
        raise BadRequest(f"{model.name} is a model for {model.kind}, not for {kind}.", param="model")
    return model


@functools.lru_cache(maxsize=512)
def _closest(name: str, names: tuple[str, ...]) -> str:
    """Of the few names that have most letters in the same places and are about as long: comparing one takes some 20 µs, and
    nothing bounds yet how often its caller asks.
    """
    alike = [one for one in names if one[:1].lower() == name[:1].lower() and abs(len(one) - len(name)) <= SLIP]
    first = sorted(alike, key=lambda one: -sum(map(operator.eq, one, name)))[:MOST_COMPARED]
    found = difflib.get_close_matches(name, first, n=1, cutoff=0.8)
    return found[0] if found else ""


def plan(model: Model, request: Request, *, choices: Sequence[Choice], bounds: Bounds) -> Plan:
    """`choices`: where the call may go, in the order to try (proxy/reach.py). Raises BadRequest, ModelUnpriced."""
    tier = _decoded(request, "service_tier")
    if isinstance(tier, str) and tier and tier.lower() not in PRICED_TIERS:
        raise BadRequest(
            f"The service tier `{tier[:40]}` has a price of its own, which is not offered here.", param="service_tier"
        )
    deployments = tuple([choice.deployment for choice in choices])
    if not all(_is_priced(deployment, request) for deployment in deployments):
        raise ModelUnpriced(f"{model.name} has no price, so its cost cannot be bounded. The operator can set one.")
    if request.drawings and not all(_prices_drawing(deployment, request) for deployment in deployments):
        raise BadRequest(
            f"{model.name} has no price for pictures that are drawn beside the answer (`image_input`, `image_output`), "
            "so the tool `image_generation` is not offered with it.",
            param="tools",
        )
    asked = request.max_tokens is not None or request.output_bound is not None
    full = _full_output(model, request)
    cap = (
        full
        if request.output_bound is not None
        else min(bound for bound in (full, bounds.most, bounds.usual) if bound is not None)
    )
    return Plan(
        model=model,
        deployments=deployments,
        reasons=tuple([choice.reason for choice in choices]),
        output_cap=cap,
        max_tokens=cap if cap < (request.max_tokens or full) or not (asked or model.max_output_tokens) else None,
        worst_case=most(deployments, request, output=cap),
        least=None if asked or bounds.least is None else most(deployments, request, output=min(cap, bounds.least)),
        tokens=_tokens(request, cap if asked else min(cap, USUAL_OUTPUT), most=None if asked else bounds.tokens),
        observed=bounds.usual is not None and cap == bounds.usual < full,
    )


def _is_priced(deployment: Deployment, request: Request) -> bool:
    """A video costs nothing but its seconds: a price that knows none would make it free."""
    price = deployment.price
    return price is not None and (request.kind != "video" or bool(price.rates.of_units(request.units)))


def _is_drawn_for(deployment: Deployment, request: Request) -> bool:
    """Whether another model draws. Whoever is spoken to in another protocol draws itself, at its own price."""
    return request.drawings > 0 and deployment.protocol_for(request) == request.protocol


def _prices_drawing(deployment: Deployment, request: Request) -> bool:
    """The model that draws is much dearer than the one that answers: its tokens must not fall back to that one's price."""
    if deployment.price is None or not _is_drawn_for(deployment, request):
        return True
    rates = deployment.price.rates
    return all(level.image_input is not None and level.image_output is not None for level in (rates, *rates.tiers))


def _drawn(deployment: Deployment, request: Request) -> int:
    """The most that the pictures cost which are drawn beside the answer, whatever bounds that."""
    if deployment.price is None or not _is_drawn_for(deployment, request):
        return 0
    rates = deployment.price.rates
    return cost_of(request.drawings * IMAGE_TOKENS, max(level.of("image_output") for level in (rates, *rates.tiers)))


def _full_output(model: Model, request: Request) -> int:
    """The most tokens that one answer can have if no policy shortens it."""
    if request.output_bound is not None:
        return request.output_bound
    # An answer fits into the window in any case. What is asked for beyond that means all that there is.
    possible = model.max_output_tokens or model.context_window
    if request.max_tokens and possible:
        return min(request.max_tokens, possible)
    return request.max_tokens or model.max_output_tokens or DEFAULT_MAX_OUTPUT


def reachable(model: Model, request: Request, deployments: tuple[Deployment, ...]) -> tuple[Deployment, ...]:
    """Those whose provider speaks the caller's protocol, or one that it can be translated to. Raises BadRequest."""
    reachable = tuple([one for one in deployments if one.provider.serves(request.protocol)])
    if deployments and not reachable:
        raise BadRequest(f"No provider of {model.name} takes calls of this kind ({request.protocol}).", param="model")
    return reachable


def _tokens(request: Request, output: int, *, most: int | None) -> int:
    """What counts until the answer tells; a mere guess is never more than a rate allows at all (`most`)."""
    needed = request.input_tokens_estimate + request.n * output
    return needed if most is None else max(request.input_tokens_estimate, min(needed, most))


def most(deployments: tuple[Deployment, ...], request: Request, *, output: int) -> int:
    """What the call can cost at the dearest of its deployments, fallbacks included."""
    return max(
        pricing.worst_case(deployment.price, output_tokens=output, **_sizes(deployment, request)) + _drawn(deployment, request)
        for deployment in deployments
        if deployment.price is not None
    )


def affordable(plan: Plan, request: Request, *, amount: int) -> int:
    """The output cap that the amount reserved pays for, whichever deployment answers."""
    return min(
        pricing.affordable_output(deployment.price, budget=amount - _drawn(deployment, request), **_sizes(deployment, request))
        for deployment in plan.deployments
        if deployment.price is not None
    )


def _sizes(deployment: Deployment, request: Request) -> _Sizes:
    asked = asked_of(deployment, request)
    return {
        "input_tokens": asked.most_input,
        "n": asked.n,
        "text_only": asked.text_only,
        "writes": cache_writes.possible(deployment, asked),
        "units": asked.most_units,
    }


def asked_of(deployment: Deployment, request: Request) -> Request:
    """What its caller asks of it, with the searches that the model there makes unasked."""
    model = deployment.target.model
    if request.kind != "chat":
        return request
    if openai_models.always_searches(model):
        most = {unit: number for unit, number in request.reserve_units.items() if unit != "web_search"}
        units, tokens = {**request.units, "web_search": 1}, max(request.reserve_tokens, SERVER_TOOL_TOKENS)
        return msgspec.structs.replace(request, units=units, reserve_units=most, reserve_tokens=tokens)
    if model.endswith(ONLINE) and "web_search" not in request.reserve_units:
        most, tokens = {**request.reserve_units, "web_search": USUAL_SEARCHES}, request.reserve_tokens + SERVER_TOOL_TOKENS
        return msgspec.structs.replace(request, reserve_units=most, reserve_tokens=tokens)
    return request


def _decoded(request: Request, name: str) -> object:
    """A member as its meaning: the same text can be written in many ways."""
    return decoded(request.fields.get(name))
