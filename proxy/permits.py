"""What the rules on a key's path let a call do, before anything is counted: from where, by whom, which model, how long.

Each refusal names the rule's level, node and policy, and who can change it.
"""

from __future__ import annotations

from typing import Any

from guardrails.rules import Rule
from proxy.call import Call
from proxy.callers import Caller
from proxy.deployments import Deployment, Model
from proxy.errors import (
    BadRequest,
    IpNotAllowed,
    MaxTokensExceeded,
    MemberNotAllowed,
    ModelNotAllowed,
    ModelNotApproved,
    PermissionRefused,
    ProviderNotAllowed,
    ZdrUnavailable,
)

# On a request: nothing of it may be retained by the provider. Said as the switches of the environment are.
ZDR_HEADER = "x-gatehouse-zdr"
_SAYS = {**dict.fromkeys(("1", "true", "yes", "on"), True), **dict.fromkeys(("0", "false", "no", "off"), False)}

ASK = "an admin above this level can change the policy"
ASK_ZDR = "a Super Admin can change it in the organisation's settings"
ASK_APPROVAL = "any member can request it in the console; an admin approves it"


def asks_zdr(text: str | None) -> bool:
    """What the header says, None where there is none. Raises BadRequest for anything else: a promise is not guessed at."""
    if text is None:
        return False
    said = _SAYS.get(text.strip().lower())
    if said is None:
        raise BadRequest(f"The header {ZDR_HEADER} must say true or false, not {text[:40]!r}.", param=ZDR_HEADER)
    return said


def check_caller(call: Call) -> None:
    """Raises IpNotAllowed, MemberNotAllowed."""
    rules = call.caller.limits.rules
    rule = rules.against_address(call.address)
    if rule is not None:
        address = call.address or "an unknown address"
        detail = _detail(rule) | {"address": call.address or None}
        raise IpNotAllowed(f"{_where(rule)} takes no calls from {address}.", detail=detail)
    check_member(call)


def check_member(call: Call) -> None:
    """Raises MemberNotAllowed."""
    rule = call.caller.limits.rules.against_member(call.principal.member_id)
    if rule is not None:
        raise MemberNotAllowed(f"{_where(rule)} does not name {call.principal.member_name}.", detail=_detail(rule))


def check_model(call: Call, model: Model) -> None:
    """Raises ModelNotAllowed, ModelNotApproved."""
    rules = call.caller.limits.rules
    rule = rules.against_model(model.name)
    if rule is not None:
        raise ModelNotAllowed(f"{_where(rule)} does not allow the model {model.name}.", param="model", detail=_detail(rule))
    if rules.needs_approval(model.name, first_offered_ms=model.created_at.timestamp() * 1000):
        detail: dict[str, object] = {
            "level": "organization",
            "node": call.principal.organization_name,
            "kind": "approval",
            "ask": ASK_APPROVAL,
        }
        raise ModelNotApproved(
            f"{call.principal.organization_name} has not approved the model {model.name} yet.", param="model", detail=detail
        )


def allowed_deployments(call: Call, model: Model) -> tuple[Deployment, ...]:
    """Raises ProviderNotAllowed, ZdrUnavailable where none is left."""
    allowed = usable_deployments(call, model)
    if allowed:
        return allowed
    if _of_allowed_providers(call.caller, model):
        raise _without_zdr(call, model)
    rules = call.caller.limits.rules
    rule = next(filter(None, (rules.against_provider(one.target.provider_name) for one in model.deployments)))
    raise ProviderNotAllowed(f"{_where(rule)} allows no provider of {model.name}.", param="model", detail=_detail(rule))


def deployments_for(caller: Caller, model: Model) -> tuple[Deployment, ...]:
    """Those that the rules on this caller's path and its organisation let it use, whatever it asks for."""
    allowed = _of_allowed_providers(caller, model)
    return tuple(one for one in allowed if one.zdr) if caller.principal.zdr_only else allowed


def usable_deployments(call: Call, model: Model) -> tuple[Deployment, ...]:
    """Of those the ones that retain nothing, where the call asks for it."""
    usable = deployments_for(call.caller, model)
    return tuple(one for one in usable if one.zdr) if call.zdr_asked else usable


def _of_allowed_providers(caller: Caller, model: Model) -> tuple[Deployment, ...]:
    rules = caller.limits.rules
    if not rules.rules:
        return model.deployments
    return tuple(one for one in model.deployments if rules.against_provider(one.target.provider_name) is None)


def _without_zdr(call: Call, model: Model) -> ZdrUnavailable:
    message = f"No deployment of {model.name} that this key may use promises zero data retention"
    principal = call.principal
    if not principal.zdr_only:
        return ZdrUnavailable(f"{message}.", param="model")
    detail: dict[str, object] = {"level": "organization", "node": principal.organization_name, "kind": "zdr_only", "ask": ASK_ZDR}
    return ZdrUnavailable(f"{message}, and {principal.organization_name} uses no others.", param="model", detail=detail)


def most_tokens(call: Call) -> int | None:
    """The bound on the output of one answer, if there is one. Raises MaxTokensExceeded where the caller asks for more."""
    bound = call.caller.limits.max_tokens
    if bound is None:
        return None
    if call.asked.max_tokens is not None and call.asked.max_tokens > bound.value:
        where = f"the {bound.level} {bound.node!r}"
        raise MaxTokensExceeded(
            f"The policy {bound.policy!r} on {where} allows {bound.value} output tokens per call, this one asks for "
            f"{call.asked.max_tokens}.",
            param=call.asked.max_tokens_field,
            detail={
                "level": bound.level,
                "node": bound.node,
                "policy": bound.policy,
                "kind": bound.kind,
                "window": bound.window,
                "limit": bound.value,
                "asked": call.asked.max_tokens,
                "ask": ASK,
            },
        )
    return bound.value


def refusal_of(call: Call, model: Model) -> PermissionRefused | None:
    """What keeps this caller from the model wherever it calls from; None where nothing does."""
    try:
        check_member(call)
        check_model(call, model)
        allowed_deployments(call, model)
    except PermissionRefused as error:
        return error
    return None


def permits(caller: Caller, model: Model) -> bool:
    """Whether calls of this caller may go to this model."""
    rules = caller.limits.rules
    return (
        rules.against_model(model.name) is None
        and not rules.needs_approval(model.name, first_offered_ms=model.created_at.timestamp() * 1000)
        and bool(deployments_for(caller, model))
    )


def _where(rule: Rule) -> str:
    return f"The policy {rule.policy!r} on the {rule.level} {rule.node!r}"


def _detail(rule: Rule) -> dict[str, Any]:
    return {"level": rule.level, "node": rule.node, "policy": rule.policy, "kind": rule.kind, "ask": ASK}
