"""Which deployments a caller with own provider keys reaches, in which order, and what goes there with them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from proxy import own_keys
from proxy.deployments import Deployment
from proxy.errors import ProviderFailed
from proxy.own_keys import OwnKey
from tests.proxy.calls import deployment, plan

A = deployment(id=1, provider="a", rpm=5, tpm=7)
B = deployment(id=2, provider="b", order=2)
ELSEWHERE = deployment(id=3, provider="c", offered="other")


def key(number: int, *, of: Deployment | None = None, **fields: Any) -> OwnKey:
    """For the provider of this deployment; without one, for its kind."""
    given: dict[str, Any] = {"secret": f"secret-{number}", **fields}
    return OwnKey(number, "openai-compatible", of.id * 10 if of is not None else None, **given)


def at(one: Deployment) -> Deployment:
    """With a provider of its own."""
    return msgspec.structs.replace(one, target=msgspec.structs.replace(one.target, provider_id=one.id * 10))


def reached(keys: list[OwnKey], *stages: list[Deployment], **how: Any) -> list[list[tuple[int, int | None]]]:
    """(deployment, own key) by stage."""
    found = own_keys.applied(keys, [tuple(map(at, stage)) for stage in stages], **how)
    return [[(one.id, one.own_key_id) for one in stage] for stage in found]


def test_without_a_key_that_fits_all_stays_as_it_is() -> None:
    assert reached([], [A, B], [ELSEWHERE]) == [[(1, None), (2, None)], [(3, None)]]
    assert reached([key(1, of=ELSEWHERE)], [A, B]) == [[(1, None), (2, None)]]


def test_the_first_key_that_fits_is_used_and_only_what_has_one_is_tried() -> None:
    assert reached([key(1, of=A), key(2)], [A, B]) == [[(1, 1), (2, 2)]]
    assert reached([key(1, of=A)], [A, B]) == [[(1, 1)]]


@pytest.mark.parametrize("base_url", ["", "https://own.example/v1"])
def test_an_own_key_needs_none_of_the_operators(base_url: str) -> None:
    unset = msgspec.structs.replace(A.target, unset_variable="MAIN_KEY", is_tenants=False)
    target = own_keys.targeted(unset, key(1, base_url=base_url))

    assert (target.api_key, target.unset_variable, target.is_tenants) == ("secret-1", "", bool(base_url))


def test_the_operators_of_fallback_models_are_left_out_once_own_keys_serve_a_model() -> None:
    assert reached([key(1, of=A)], [A], [ELSEWHERE]) == [[(1, 1)], []]
    assert reached([key(1, of=ELSEWHERE)], [A], [ELSEWHERE], [B]) == [[(1, None)], [(3, 1)], []]


def test_where_a_key_says_so_the_operators_follow() -> None:
    keys = [key(1, of=A, falls_back=True)]
    assert reached(keys, [A, B], [ELSEWHERE]) == [[(1, 1), (1, None), (2, None)], [(3, None)]]
    orders = [one.order for one in own_keys.applied(keys, [(at(A), at(B))])[0]]
    assert orders == sorted(orders)
    assert orders[0] < orders[1] < orders[2]
    # Each key speaks for its own provider.
    assert reached([*keys, key(2, of=B)], [A, B]) == [[(1, 1), (2, 2), (1, None)]]
    assert reached(keys, [A, B], [ELSEWHERE], own_only=True) == [[(1, 1)], []]


def test_keys_that_do_not_open_are_passed_over_never_replaced() -> None:
    assert reached([key(1, of=A, secret=None), key(2, of=B)], [A, B]) == [[(2, 2)]]
    with pytest.raises(ProviderFailed, match="cannot be opened"):
        reached([key(1, secret=None)], [A, B], [ELSEWHERE])
    assert reached([key(1, secret=None, falls_back=True)], [A]) == [[(1, None)]]


def test_what_the_operator_is_granted_and_knows_of_a_deployment_is_not_the_keys() -> None:
    ((one,),) = own_keys.applied([key(4)], [(A,)])
    assert (one.rpm, one.tpm, one.health_name, A.health_name) == (None, None, "1k4", "1")
    assert (one.target.api_key, one.target.is_tenants, one.target.base_url) == ("secret-4", False, A.target.base_url)


def test_nothing_of_the_operators_goes_to_an_address_that_a_tenant_gave() -> None:
    secret = msgspec.structs.replace(A.target, api_key="theirs", headers={"x-key": "theirs-too"}, options={"token": "theirs"})
    target = own_keys.targeted(secret, key(1, base_url="https://tenant.example/v1"))
    assert (target.base_url, target.is_tenants, target.api_key) == ("https://tenant.example/v1", True, "secret-1")
    assert (target.headers, target.options) == ({}, {})


def test_a_plan_knows_who_pays() -> None:
    own = msgspec.structs.replace(A, own_key_id=1)
    other = msgspec.structs.replace(ELSEWHERE, own_key_id=1)
    assert [(plan(*ones).own_only, plan(*ones).is_mixed) for ones in ([own], [own, B], [B], [B, other], [own, other])] == [
        (True, False),
        (False, True),
        (False, False),
        (False, False),
        (True, False),
    ]


def test_a_secret_is_in_no_representation() -> None:
    assert "secret-1" not in repr(key(1))
    assert "secret-1" not in repr(own_keys.applied([key(1)], [(A,)])[0][0].target)
