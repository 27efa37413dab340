"""Rules and switches as lines of an explanation: each judged alone, by the functions that judge calls (guardrails.rules)."""

from __future__ import annotations

from datetime import UTC, datetime

from guardrails.rules import Rule, Rules
from proxy import attribution, errors, permits
from proxy.call import Call
from proxy.deployments import Model
from proxy.errors import ProxyError
from proxy.explained import Line, Verdict


def lines_of(call: Call, model: Model | None) -> list[Line]:
    """`model`: the one asked for, None where there is none of that name."""
    rules = [_rule_line(call, model, rule) for rule in call.caller.limits.rules.rules]
    return [*_of_the_key(call), *_of_the_organization(call, model), *rules]


def _rule_line(call: Call, model: Model | None, rule: Rule) -> Line:
    refuses, code, text = _ruled(call, model, rule, Rules(rules=(rule,)))
    return Line(
        level=rule.level,
        node=rule.node,
        policy=rule.policy,
        kind=rule.kind,
        entries=rule.entries,
        verdict="refuses" if refuses else "passes",
        code=code if refuses else "",
        text=text,
    )


def _ruled(call: Call, model: Model | None, rule: Rule, alone: Rules) -> tuple[bool, str, str]:
    """Whether this rule alone refuses the call, with which code, and the words for it."""
    match rule.kind:
        case "addresses":
            refuses = alone.against_address(call.address) is not None
            shown = call.address or "an unknown address"
            return refuses, errors.IpNotAllowed.code, f"{'does not list' if refuses else 'lists'} {shown}"
        case "members":
            refuses = alone.against_member(call.principal.member_id) is not None
            shown = call.principal.member_name or "a key of an application has no member"
            return refuses, errors.MemberNotAllowed.code, f"{shown} is not named" if refuses else shown
        case "providers":
            return _provided(call, model, alone)
        case _:
            refuses = alone.against_model(call.model) is not None
            listed = refuses == (rule.kind == "blocked_models")
            return refuses, errors.ModelNotAllowed.code, f"{'lists' if listed else 'does not list'} {call.model}"


def _provided(call: Call, model: Model | None, alone: Rules) -> tuple[bool, str, str]:
    """It refuses where it leaves none, alone or together with the other lists of providers."""
    code = errors.ProviderNotAllowed.code
    if model is None:
        return False, code, ""
    names = [one.target.provider_name for one in model.deployments]
    out = [name for name in dict.fromkeys(names) if alone.against_provider(name) is not None]
    if not out:
        return False, code, f"it allows every provider of {model.name}"
    try:
        permits.allowed_deployments(call, model)
    except errors.ZdrUnavailable:
        pass  # these lists do leave some: the organisation's switch is a line of its own
    except errors.ProviderNotAllowed:
        return True, code, f"it leaves out {', '.join(out)}, and no provider of {model.name} is left"
    return False, code, f"it leaves out {', '.join(out)}; {model.name} has others"


def _of_the_key(call: Call) -> list[Line]:
    expires = call.principal.expires_at
    if expires is None:
        return []
    over = expires <= datetime.now(UTC)
    return [_switch("key", call.principal.key_name, "expiry", errors.KeyExpired, not over, f"valid until {_moment(expires)}")]


def _of_the_organization(call: Call, model: Model | None) -> list[Line]:
    """Its switches: attribution, the approval of new models, and zero data retention."""
    principal, lines = call.principal, []
    where = ("organization", principal.organization_name)
    if principal.attribution_required:
        words = "every call names application, environment and feature"
        lines.append(_switch(*where, "attribution", errors.AttributionRequired, _attributed(call), words))
    if principal.approval_since is not None and model is not None:
        needed, words = _approval(call, model)
        lines.append(_switch(*where, "approval", errors.ModelNotApproved, not needed, words))
    if principal.zdr_only and model is not None:
        promised = _retains_nothing(call, model)
        words = f"{'a' if promised else 'no'} deployment of {model.name} for this key promises zero data retention"
        lines.append(_switch(*where, "zdr_only", errors.ZdrUnavailable, promised, words))
    return lines


def _approval(call: Call, model: Model) -> tuple[bool, str]:
    rules, offered_ms = call.caller.limits.rules, model.created_at.timestamp() * 1000
    if rules.needs_approval(model.name, first_offered_ms=offered_ms):
        return True, f"new since {_moment(model.created_at)}, and {model.name} is not approved for this path"
    if rules.approval is not None and offered_ms > rules.approval.since_ms:
        return False, "new, and approved"
    return False, "offered before approvals began"


def _retains_nothing(call: Call, model: Model) -> bool:
    """Where other rules leave no deployment at all, the switch is not what refuses."""
    try:
        permits.allowed_deployments(call, model)
    except errors.ZdrUnavailable:
        return False
    except ProxyError:
        return True
    return True


def _moment(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _attributed(call: Call) -> bool:
    try:
        attribution.feature_of(call.principal, call.feature_asked)
    except errors.AttributionRequired:
        return False
    except ProxyError:
        return True
    return True


def _switch(level: str, node: str, kind: str, error: type[ProxyError], passes: bool, text: str) -> Line:
    verdict: Verdict = "passes" if passes else "refuses"
    return Line(level=level, node=node, kind=kind, verdict=verdict, code="" if passes else error.code, text=text)
