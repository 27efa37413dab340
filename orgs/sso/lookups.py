"""The way to a connection for a browser that signs in: nobody is known yet, so only its public name leads there."""

from __future__ import annotations

from django.http import Http404

from orgs.sso_models import SsoConnection


def access_connection_by_slug(slug: str, kind: SsoConnection.Kind | None = None) -> SsoConnection:
    """One that is configured, and speaks `kind`. Raises Http404."""
    found = SsoConnection.objects.filter(slug=slug).select_related("organization", "group").first()
    if found is None or not found.is_configured or (kind and found.kind != kind):
        raise Http404("no such single sign-on")
    return found
