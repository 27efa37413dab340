"""For what a call is made: the application, feature and environment that the key declares."""

from __future__ import annotations

from orgs.access import Principal
from proxy.errors import AttributionRequired, BadRequest

HEADER = "x-gatehouse-feature"
ASK = "whoever manages this key can bind it to an application, with its environment and features"


def feature_of(principal: Principal, asked: str) -> str:
    """The feature of this call: the one asked for, or the key's only one.

    Raises BadRequest for one the key does not declare, AttributionRequired where the organisation lets no
    call pass without application, feature and environment.
    """
    if asked and asked not in principal.features:
        declared = ", ".join(principal.features) or "none"
        raise BadRequest(f"This API key does not declare the feature named in {HEADER}; it declares: {declared}.", param=HEADER)
    feature = asked or (principal.features[0] if len(principal.features) == 1 else "")
    if principal.attribution_required:
        _require(principal, feature)
    return feature


def _require(principal: Principal, feature: str) -> None:
    missing = [
        name
        for name, value in (
            ("application", principal.application_id),
            ("environment", principal.environment),
            ("feature", feature),
        )
        if not value
    ]
    if not missing:
        return
    several = " Name one of the key's features in the header x-gatehouse-feature." if len(principal.features) > 1 else ""
    raise AttributionRequired(
        f"{principal.organization_name} takes no call without attribution, and this one lacks: {', '.join(missing)}.{several}",
        detail={
            "level": "organization",
            "node": principal.organization_name,
            "kind": "attribution",
            "missing": missing,
            "ask": ASK,
        },
    )
