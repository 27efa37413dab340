"""What an organisation's switch for zero data retention leaves of the declared models, before it is thrown."""

from __future__ import annotations

from typing import NamedTuple

from django.db.models import Exists, OuterRef

from orgs.actor import Actor
from proxy import model_uses
from proxy.model_uses import Use
from proxy.models import Deployment, Model


class Reach(NamedTuple):
    """Declared models, how many of them some deployment serves that retains nothing, and what is in use of the others."""

    models: int
    usable: int
    lost: list[Use]


def reach_for(actor: Actor) -> Reach:
    """Two statements. Rules on single keys or groups may leave them fewer."""
    served = Deployment.objects.filter(model=OuterRef("pk"), provider__enabled=True)
    offered = Model.objects.filter(Exists(served), enabled=True).annotate(promised=Exists(served.filter(zdr=True)))
    promised = dict(offered.values_list("name", "promised"))
    others = [name for name, is_promised in promised.items() if not is_promised]
    return Reach(len(promised), len(promised) - len(others), model_uses.of_models(others, actor=actor))
