"""What the approval of new models would leave of the declared models, before it is asked for: for the settings page."""

from __future__ import annotations

from datetime import datetime

from django.db.models import Exists, OuterRef

from guardrails import requests
from orgs.actor import Actor
from orgs.approvals import Lost, Reach
from proxy import model_uses
from proxy.models import Deployment, Model
from proxy.newly_offered import newly_offered


def reach_for(actor: Actor, since: datetime) -> Reach:
    """Four statements. Who asks sees the whole organisation. Names that nobody declared are not among them."""
    served = Deployment.objects.filter(model=OuterRef("pk"), provider__enabled=True)
    offered = Model.objects.filter(Exists(served), enabled=True).count()
    approvals = requests.approvals_of(actor)
    new = [one.name for one in newly_offered(since)]
    waiting = [name for name in new if not requests.approved_everywhere(name, approvals)]
    lost = [
        Lost(use.model, use.calls, use.keys, [found.group.name for found in approvals.get(use.model, [])])
        for use in model_uses.of_models(waiting, actor=actor)
    ]
    return Reach(since, offered, len(waiting), lost)
