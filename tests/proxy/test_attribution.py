"""No metadata, no call."""

from typing import Any

import openai
import pytest

from orgs.services.organizations import change_settings
from tests.gateways import Gateway
from tests.house import MESSAGES, House
from tests.upstream import Upstream


@pytest.fixture
def strict(house: House) -> House:
    change_settings(house.organization, by=house.world.actor("alice"), attribution_required=True)
    return house


def refusal(gateway: Gateway, house: House, key: str, **options: Any) -> Any:
    with pytest.raises(openai.PermissionDeniedError) as caught:
        house.client(gateway.url, key).chat.completions.create(model="scripted", messages=MESSAGES, **options)
    return caught.value.body


def test_a_key_without_an_application_is_refused(gateway: Gateway, strict: House, upstream: Upstream) -> None:
    told = refusal(gateway, strict, strict.key_text)

    assert told["code"] == "attribution_required"
    assert told["gatehouse"]["missing"] == ["application", "environment", "feature"]
    assert upstream.received == []


def test_several_features_need_the_header(gateway: Gateway, strict: House) -> None:
    _, key = strict.new_key(application=strict.world.assistant, environment="staging", features=["chat", "search"])

    told = refusal(gateway, strict, key)
    assert told["gatehouse"]["missing"] == ["feature"]
    assert "x-gatehouse-feature" in told["message"]

    got = strict.client(gateway.url, key).chat.completions.with_raw_response.create(
        model="scripted", messages=MESSAGES, extra_headers={"x-gatehouse-feature": "chat"}
    )
    row = strict.row_of(got.headers["x-request-id"])
    assert (row.application_id, row.feature, row.environment) == (strict.world.assistant.pk, "chat", "staging")
    assert (row.organization_id, row.group3_id, row.member_id) == (
        strict.organization.pk,
        strict.world.gateway.pk,
        strict.world.mia.pk,
    )


def test_a_single_feature_needs_no_header(gateway: Gateway, strict: House) -> None:
    key, text = strict.new_key(application=strict.world.assistant, environment="staging", features=["search"])

    got = strict.client(gateway.url, text).chat.completions.with_raw_response.create(model="scripted", messages=MESSAGES)

    row = strict.row_of(got.headers["x-request-id"])
    assert (row.feature, row.api_key_id) == ("search", key.pk)


def test_the_switch_counts_from_the_next_call_on(gateway: Gateway, house: House) -> None:
    client = house.client(gateway.url)
    client.chat.completions.create(model="scripted", messages=MESSAGES)

    change_settings(house.organization, by=house.world.actor("alice"), attribution_required=True)

    with pytest.raises(openai.PermissionDeniedError):
        client.chat.completions.create(model="scripted", messages=MESSAGES)
