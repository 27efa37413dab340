"""What a name given to a model may stand for: a model of the catalogue or the price list, what `auto` chooses, an alias."""

from __future__ import annotations

from django.db.models.functions import Lower

from billing.models import PriceVersion
from orgs.models import Group
from proxy import listed
from proxy.auto import LEANINGS
from proxy.models import Alias, Model, Provider
from proxy.names import AUTO, PRESET


def reserved(name: str) -> str:
    """Why no alias may be called so; empty where one may."""
    lower = name.lower()
    if lower == AUTO or lower.startswith(f"{AUTO}:"):
        return f"“{AUTO}” and what begins with “{AUTO}:” stand for the model that the gateway chooses."
    if lower.startswith(PRESET):
        return f"What begins with “{PRESET}” stands for a preset."
    taken = Model.objects.filter(name__iexact=name).first()
    if taken is not None:
        return f"There is a model {taken.name}: an alias of that name would take its calls."
    account, _, rest = name.partition("/")
    if rest and Provider.objects.filter(name=account).exists():
        return f"“{account}/…” stands for the models of the provider {account}."
    return ""


def leaning(name: str) -> str | None:
    return next((one for one in LEANINGS if one == name.lower()), None)


def model_named(name: str, *, kind: str | None = None) -> str | None:
    """A model's name as calls must give it: of a declared one whatever the case; of a listed one as it was typed.

    `kind`: only of that kind; what a listed one is for nobody knows.
    """
    declared = Model.objects.filter(name__iexact=name, enabled=True, deployments__provider__enabled=True)
    if kind is not None:
        declared = declared.filter(kind=kind)
    found = declared.values_list("name", flat=True).first()
    return found or (name if _is_listed(name) else None)


def declared_chat_model(name: str) -> str | None:
    """What `auto` may choose, and what savings can be told against."""
    offered = Model.objects.filter(name__iexact=name, kind=Model.Kind.CHAT, enabled=True, deployments__provider__enabled=True)
    return offered.values_list("name", flat=True).first()


def alias_named(name: str, *, group: Group) -> str | None:
    """An alias that keys of this group may use."""
    found = Alias.objects.filter(organization=group.organization_id, group__in=group.lineage(), name__iexact=name)
    return found.values_list("name", flat=True).first()


def _is_listed(name: str) -> bool:
    account, _, upstream = name.partition("/")
    provider = Provider.objects.filter(name=account, enabled=True).first() if upstream else None
    if provider is None:
        return False
    known = PriceVersion.objects.annotate(lower_sku=Lower("sku"))
    return known.filter(lower_sku__in=listed.skus(provider.kind, upstream)).exists()
