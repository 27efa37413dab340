"""The feature of a call, as the key declares it: a table of every combination that matters."""

from __future__ import annotations

import itertools

import pytest

from proxy.attribution import ASK, feature_of
from proxy.errors import AttributionRequired, BadRequest
from tests.proxy.calls import principal


@pytest.mark.parametrize(
    ("features", "asked", "feature"),
    [((), "", ""), (("chat",), "", "chat"), (("chat",), "chat", "chat"), (("a", "b"), "", ""), (("a", "b"), "b", "b")],
)
def test_it_is_the_one_asked_for_or_the_only_one(features: tuple[str, ...], asked: str, feature: str) -> None:
    assert feature_of(principal(features=features), asked) == feature


@pytest.mark.parametrize(("features", "declared"), [((), "none"), (("chat",), "chat"), (("a", "b"), "a, b")])
def test_one_that_is_not_declared_is_refused_with_those_that_are(features: tuple[str, ...], declared: str) -> None:
    with pytest.raises(BadRequest) as raised:
        feature_of(principal(features=features), "other")
    assert raised.value.message.endswith(f"it declares: {declared}.")
    assert raised.value.param == "x-gatehouse-feature"


@pytest.mark.parametrize("asked", ["Chat", "chat ", "chat\x00", "ch"])
def test_a_feature_is_matched_to_the_letter(asked: str) -> None:
    with pytest.raises(BadRequest):
        feature_of(principal(features=("chat",)), asked)


@pytest.mark.parametrize(
    ("application", "environment", "features"),
    list(itertools.product((None, 9), ("", "staging"), ((), ("chat",), ("chat", "search")))),
)
def test_where_attribution_is_required_each_part_that_lacks_is_named(
    application: int | None, environment: str, features: tuple[str, ...]
) -> None:
    asking = principal(attribution_required=True, application_id=application, environment=environment, features=features)
    lacks = [
        name
        for name, given in (("application", application), ("environment", environment), ("feature", len(features) == 1))
        if not given
    ]
    if not lacks:
        assert feature_of(asking, "") == "chat"
        return
    with pytest.raises(AttributionRequired) as raised:
        feature_of(asking, "")
    assert raised.value.detail == {
        "level": "organization",
        "node": "Acme",
        "kind": "attribution",
        "missing": lacks,
        "ask": ASK,
    }
    assert ("header" in raised.value.message) == (len(features) > 1)


def test_naming_one_of_several_completes_the_attribution() -> None:
    asking = principal(attribution_required=True, application_id=9, environment="staging", features=("chat", "search"))
    assert feature_of(asking, "search") == "search"
