"""Loading one binding or exception by its id: absent and another organisation's are the same 404."""

from __future__ import annotations

from django.http import Http404

from gateway_project.lib.rows import sole
from guardrails.models import Binding, Override
from orgs.actor import Actor


def access_binding_by_id(actor: Actor, binding_id: int) -> Binding:
    """Of a policy that is not one object's own; whoever acts on it asks for the permission there. Raises Http404."""
    found = Binding.objects.filter(pk=binding_id, organization=actor.organization, policy__dedicated=False)
    binding = sole(found.select_related("policy", "group", "member", "api_key__group", "application__group"))
    if binding is None:
        raise Http404("no such binding")
    return binding


def access_override_by_id(actor: Actor, override_id: int) -> Override:
    """As above. Raises Http404."""
    found = Override.objects.filter(pk=override_id, organization=actor.organization, limit__policy__dedicated=False)
    override = sole(found.select_related("limit__policy", "group", "member", "api_key", "application"))
    if override is None:
        raise Http404("no such exception")
    return override
