"""A model that is new in the organisation, and may be called after an approval only."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from orgs.services.organizations import change_settings
from proxy.models import Deployment, Model, Provider
from tests.actors import World

MODEL = "brand-new-model"


def offer_new_model(world: World) -> World:
    """It is offered since yesterday; models of the last week need an approval."""
    provider = Provider.objects.create(name="provider-of-requests", kind="sandbox")
    model = Model.objects.create(name=MODEL, created_at=datetime.now(UTC) - timedelta(days=1))
    Deployment.objects.create(model=model, provider=provider, upstream_model=MODEL)
    change_settings(world.acme, by=world.actor("alice"), approval_since=datetime.now(UTC) - timedelta(days=7))
    world.acme.refresh_from_db()
    return world
