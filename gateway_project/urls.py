"""The console's routes. The proxy's (`/v1/*`) stand in proxy.urls and are served without middleware (asgi.py)."""

from django.urls import include, path, re_path

from gateway_project import api_document
from orgs import accept_views

urlpatterns = [
    path("", include("orgs.urls")),
    path("accounts/", include("orgs.sign_in_urls")),
    path("accounts/", include("allauth.urls")),
    path("sso/", include("orgs.sso.urls")),
    path("o/<slug:org>/security/", include("orgs.sso_urls")),
    path("account/", include("orgs.account_urls")),
    path("api/v1/", include("proxy.api_urls")),
    path("api/v1/", include("gateway_project.api_urls")),
    path("api/v1/", include("orgs.api.urls")),
    path("api/v1/", include("guardrails.api.urls")),
    path("api/v1/", include("billing.api_urls")),
    path("api/v1/", include("analytics.api_urls")),
    re_path("^api/v1/", api_document.absent, name="api_absent"),  # `path` would end at a line break
    path("tokens/", include("orgs.token_urls")),
    path("o/<slug:org>/security/provisioning/", include("orgs.provisioning_urls")),
    path("scim/v2/", include("orgs.scim.urls")),
    path("platform/", include("gateway_project.platform_urls")),
    path("o/<slug:org>/audit/", include("orgs.audit_urls")),
    path("o/<slug:org>/members/", include("orgs.member_urls")),
    path("o/<slug:org>/roles/", include("orgs.role_urls")),
    path("o/<slug:org>/invitations/", include("orgs.invitation_urls")),
    path("invite/<slug:token>/", accept_views.invitation, name="accept"),
    path("o/<slug:org>/groups/", include("orgs.group_urls")),
    path("o/<slug:org>/applications/", include("orgs.application_urls")),
    path("o/<slug:org>/keys/", include("guardrails.urls")),
    path("o/<slug:org>/guardrails/simulations/", include("proxy.simulation_urls")),
    path("o/<slug:org>/guardrails/", include("guardrails.policy_urls")),
    path("o/<slug:org>/settings/calendar/", include("guardrails.calendar_urls")),
    path("o/<slug:org>/settings/zdr/", include("proxy.zdr_urls")),
    path("o/<slug:org>/guardrails/explain/", include("proxy.explain_urls")),
    path("o/<slug:org>/guardrails/requests/", include("guardrails.request_urls")),
    path("o/<slug:org>/playground/", include("proxy.playground_urls")),
    path("o/<slug:org>/models/", include("proxy.catalogue_urls")),
    path("o/<slug:org>/provider-keys/", include("proxy.provider_key_urls")),
    path("o/<slug:org>/routing/", include("proxy.routing_urls")),
    path("o/<slug:org>/presets/", include("proxy.preset_urls")),
    path("o/<slug:org>/", include("analytics.urls")),
]

handler500 = "gateway_project.outage.server_error"
