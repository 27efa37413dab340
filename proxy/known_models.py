"""The catalogue as the pages of guardrails need it: names, providers, most output, dearest price."""

from __future__ import annotations

from itertools import groupby

from django.db import connection
from django.db.models import QuerySet
from django.utils import timezone

from billing import prices
from billing.pricing import Price
from guardrails.offered import OfferedModel
from proxy.models import Deployment, Model


def known_models() -> list[OfferedModel]:
    """Chat models that are offered; two statements."""
    served = Deployment.objects.filter(model__kind=Model.Kind.CHAT, model__enabled=True, provider__enabled=True)
    found = list(served.select_related("model", "provider").order_by("model_id", "order", "pk"))
    known = _prices({sku for one in found for sku in _skus(one.model, one)})
    return [_offered(ones[0].model, ones, known) for ones in (list(group) for _, group in groupby(found, key=_model_id))]


def known_names() -> list[OfferedModel]:
    """Of the same models nothing but the name; one statement."""
    return [OfferedModel(name) for name in _chat_models().values_list("name", flat=True)]


def _model_id(deployment: Deployment) -> int:
    return deployment.model_id


def _chat_models() -> QuerySet[Model]:
    return Model.objects.filter(kind=Model.Kind.CHAT, enabled=True, deployments__provider__enabled=True).distinct()


def chat_model_names() -> list[str]:
    """Of the models that may be asked for, by name."""
    return list(Model.objects.filter(kind=Model.Kind.CHAT, enabled=True).order_by("name").values_list("name", flat=True))


def _offered(model: Model, served: list[Deployment], known: dict[str, Price]) -> OfferedModel:
    priced = [next((known[sku] for sku in _skus(model, one) if sku in known), None) for one in served]
    rates = [price.rates for price in priced if price is not None]
    dearest = max(rates, key=lambda rate: (rate.output, rate.input)) if rates and len(rates) == len(priced) else None
    return OfferedModel(
        name=model.name,
        providers=tuple(sorted({one.provider.name for one in served})),
        max_output_tokens=model.max_output_tokens,
        input_price=dearest.input if dearest else None,
        output_price=dearest.output if dearest else None,
    )


def _skus(model: Model, deployment: Deployment) -> list[str]:
    return prices.skus_for(model=model.name, kind=deployment.provider.kind, upstream_model=deployment.upstream_model)


def _prices(skus: set[str]) -> dict[str, Price]:
    with connection.cursor() as cursor:
        cursor.execute(prices.PRICES_SQL, {"skus": sorted(skus), "at": timezone.now()})
        names = [column.name for column in cursor.description or ()]
        rows = [dict(zip(names, values, strict=True)) for values in cursor.fetchall()]
    found = {row["sku"]: prices.price_from_row(row) for row in rows}
    return {sku: price for sku, price in found.items() if price is not None}
