"""The benchmark's organisation is governed as a company is: a figure without limits would flatter."""

from __future__ import annotations

import pytest

from billing.models import PriceVersion
from gateway_project.bench import prepare
from guardrails.models import Binding, Limit
from orgs.models import ApiKey
from proxy.models import Deployment, Model

pytestmark = pytest.mark.usefixtures("nobody")
UPSTREAM = "http://127.0.0.1:9/v1"


@pytest.fixture
def key() -> ApiKey:
    text = prepare.organisation(UPSTREAM)
    return ApiKey.objects.get(public_id=text.removeprefix("gh_sk_").split("_")[0])


def test_limits_stand_on_every_level_of_the_keys_path(key: ApiKey) -> None:
    bindings = Binding.objects.filter(organization=key.organization)
    assert bindings.filter(group__isnull=False).count() == 4
    assert bindings.filter(member__isnull=False).count() == 1
    assert bindings.filter(api_key=key).count() == 1
    assert key.group.get_ancestors(include_self=True).count() == 4
    for binding in bindings:
        assert set(Limit.objects.filter(policy=binding.policy).values_list("window", flat=True)) == {"day", "month"}


def test_the_only_model_is_priced_and_served_by_the_local_provider(key: ApiKey) -> None:
    deployment = Deployment.objects.get(model__name="bench")
    assert deployment.provider.base_url == UPSTREAM
    assert PriceVersion.objects.filter(sku="model:bench").count() == 1
    assert Model.objects.get(name="bench").max_output_tokens == 4096
