"""Every route declares who may pass (orgs/doors.py), and every route is tried by everyone.

A new page is one line in ROWS; a route without a line fails.
"""

import functools
from collections.abc import Callable
from copy import deepcopy
from datetime import timedelta
from typing import Any, NamedTuple
from uuid import UUID

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from pytest_django.plugin import DjangoDbBlocker

from guardrails.services.bindings import bind
from guardrails.services.overrides import add_override
from guardrails.services.policies import LimitSpec, create_policy
from orgs.doors import door_of
from orgs.models import AuditEvent
from orgs.navigation import ENTRIES, TABS
from orgs.permissions import Permission, RoleName
from orgs.services.invitations import invite
from orgs.services.members import grant_role
from orgs.services.roles import create_role
from orgs.sso_models import Domain, SsoConnection
from proxy import provider_keys
from proxy.naming_services import PresetWords, create_alias, create_preset
from proxy.provider_keys import Place
from tests.actors import World, with_session
from tests.examples import tried
from tests.orgs.routes import Route, routes_of

URLCONF = "gateway_project.urls"

# allauth's own pages of sign-in and of a person's account, each of which sees to its own access.
ALLAUTH = {
    "account_logout",
    "account_inactive",
    "account_signup",
    "account_reauthenticate",
    "account_confirm_email",
    "account_email_verification_sent",
    "account_change_password",
    "account_set_password",
    "account_reset_password",
    "account_reset_password_done",
    "account_reset_password_from_key",
    "account_reset_password_from_key_done",
    "account_confirm_login_code",
    "account_request_login_code",
    "socialaccount_login_cancelled",
    "socialaccount_login_error",
    "socialaccount_signup",
    "socialaccount_connections",
    "mfa_index",
    "mfa_authenticate",
    "mfa_reauthenticate",
    "mfa_activate_totp",
    "mfa_deactivate_totp",
    "mfa_generate_recovery_codes",
    "mfa_list_webauthn",
    "mfa_add_webauthn",
    "mfa_reauthenticate_webauthn",
    "mfa_remove_webauthn",
    "mfa_edit_webauthn",
    "mfa_login_webauthn",
    # Accounts elsewhere: where a sign-in with one begins, and where it comes back.
    "github_login",
    "github_callback",
    "google_login",
    "google_callback",
    "google_login_by_token",
    "openid_connect_login",
    "openid_connect_callback",
    # Redirects from where these pages stood in its older versions.
    "/accounts/social/login/cancelled/",
    "/accounts/social/login/error/",
    "/accounts/social/signup/",
    "/accounts/social/connections/",
}

pytestmark = pytest.mark.usefixtures("short_refusals")

PEOPLE = ("anonymous", "charlie", "noah", "mia", "sam", "lena", "alice")


class Row(NamedTuple):
    """`codes` are the answers to PEOPLE, all in the organisation Acme of tests/actors.py; Noah is a member beside Mia.

    Arguments of the path named org, key_id, group_id, application_id, member_id and call_id are filled in: Mia's key, her
    group and membership, Sam's application, a call that never was;
    below guardrails a policy on Sam's own node, and an exception there; a provider key on Lena's; below routing and
    presets an alias and a preset on Sam's. `method` is sent with the form `data`.
    """

    name: str
    codes: str
    method: str = "get"
    data: dict[str, str] | None = None


SCIM = ("config", "resource_types", "resource_type", "schemas", "schema", "users", "user", "groups", "group", "absent")
OPERATOR = [
    ("platform:organizations", "get"),
    ("platform:people", "get"),
    ("platform:freeze_person", "get"),
    ("platform:freeze_person", "post"),
    ("platform:unfreeze_person", "post"),
    ("platform:freeze_organization", "get"),
    ("platform:freeze_organization", "post"),
    ("platform:unfreeze_organization", "post"),
    ("platform:credit", "get"),
    ("platform:credit", "post"),
    ("platform:providers", "get"),
    ("platform:add_provider", "get"),
    ("platform:add_provider", "post"),
    ("platform:catalogue_file", "get"),
    ("platform:catalogue_file", "post"),
    ("platform:prices", "get"),
    ("platform:price_difference", "get"),
    ("platform:apply_prices", "post"),
    ("platform:system", "get"),
]
ROWS = [
    # Of the person, whatever their organisations; who is signed in has no business at the sign-in page.
    Row("account_login", "200 302 302 302 302 302 302"),
    Row("account:profile", "302 200 200 200 200 200 200"),
    Row("account:profile", "302 422 422 422 422 422 422", method="post"),
    Row("account:end_session", "302 404 404 404 404 404 404", method="post"),
    Row("account:end_other_sessions", "302 302 302 302 302 302 302", method="post"),
    Row("account_email", "302 200 200 200 200 200 200"),
    Row("usersessions_list", "302 200 200 200 200 200 200"),
    Row("mfa_view_recovery_codes", "302 404 404 404 404 404 404"),
    Row("mfa_download_recovery_codes", "302 404 404 404 404 404 404"),
    Row("orgs:home", "302 302 302 302 302 302 302"),
    Row("orgs:new_organization", "302 200 200 200 200 200 200"),
    Row("orgs:new_organization", "302 422 422 422 422 422 422", method="post"),
    Row("orgs:switch", "302 404 302 302 302 302 302"),
    Row("orgs:switch", "302 404 302 302 302 302 302", method="post"),
    Row("orgs:view_as", "302 404 403 403 200 200 200"),
    Row("orgs:view_as_start", "302 404 403 403 302 302 302", method="post"),
    Row("orgs:view_as_end", "302 302 302 302 302 302 302", method="post"),
    Row("api:explain", "401 400 400 400 400 400 400"),
    # The operator's pages: nobody of these is one (tests/orgs/test_operator_pages.py).
    *(Row(name, "302 404 404 404 404 404 404", method=method) for name, method in OPERATOR),
    Row("api_document:openapi", "200 200 200 200 200 200 200"),
    Row("api_document:page", "200 200 200 200 200 200 200"),
    Row("api_absent", "404 404 404 404 404 404 404"),
    Row("tokens:list", "302 200 200 200 200 200 200"),
    Row("tokens:list", "302 422 422 422 422 422 422", method="post"),
    Row("tokens:revoke", "302 404 404 404 404 404 404", method="post"),
    # A directory comes with a token of its own, never with a session (tests/orgs/scim/).
    *(Row(f"scim:{name}", "401 401 401 401 401 401 401") for name in (*SCIM, "search_users", "search_groups")),
    Row("provisioning:page", "302 404 403 403 403 403 200"),
    Row("provisioning:token", "302 404 403 403 403 403 200"),
    Row("provisioning:token", "302 404 403 403 403 403 422", method="post"),
    Row("provisioning:revoke", "302 404 403 403 403 403 302"),
    Row("provisioning:default_group", "302 404 403 403 403 403 302"),
    Row("provisioning:link", "302 404 403 403 403 403 404"),
    Row("catalogue:models", "302 404 200 200 200 200 200"),
    Row("catalogue:model", "302 404 404 404 404 404 404"),
    Row("playground:page", "302 404 200 200 200 200 200"),
    Row("playground:call", "302 404 404 204 404 404 404", method="post"),
    Row("playground:outcome", "302 404 204 204 204 204 204"),
    Row("explain:page", "302 404 200 200 200 200 200"),
    Row("requests:page", "302 404 200 200 200 200 200"),
    Row("requests:waiting", "302 404 403 403 200 200 200"),
    Row("requests:new", "302 404 200 200 200 200 200"),
    Row("requests:approve_model", "302 404 403 403 200 200 200"),
    Row("requests:approve", "302 404 403 403 404 404 404"),
    Row("requests:decline", "302 404 403 403 404 404 404"),
    Row("requests:revoke", "302 404 403 403 404 404 404"),
    Row("requests:withdraw", "302 404 404 404 404 404 404", method="post"),
    Row("orgs:settings", "302 404 403 403 403 403 200"),
    Row("orgs:settings", "302 404 403 403 403 403 422", method="post"),
    Row("members:list", "302 404 403 403 200 200 200"),
    Row("members:bulk", "302 404 403 403 302 302 302", method="post"),
    Row("members:leave", "302 404 200 200 200 200 200"),
    Row("members:leave", "302 404 422 422 422 422 422", method="post"),
    Row("members:member", "302 404 403 403 200 200 200"),
    Row("members:history", "302 404 403 403 200 200 200"),
    Row("members:grant", "302 404 403 403 200 200 200"),
    Row("members:grant", "302 404 403 403 422 422 422", method="post"),
    Row("members:end_grant", "302 404 403 403 200 200 200"),
    Row("members:end_grant", "302 404 403 403 302 404 404", method="post"),
    Row("members:suspend", "302 404 403 403 200 200 200"),
    Row("members:suspend", "302 404 403 403 302 302 302", method="post"),
    Row("members:resume", "302 404 403 403 302 302 302", method="post"),
    Row("members:move", "302 404 403 403 200 200 200"),
    Row("members:move", "302 404 403 403 422 422 422", method="post"),
    Row("members:remove", "302 404 403 403 200 200 200"),
    Row("members:remove", "302 404 403 403 422 422 422", method="post"),
    Row("accept", "404 404 404 404 404 404 404"),
    Row("invitations:list", "302 404 403 403 200 200 200"),
    Row("invitations:new_link", "302 404 403 403 200 200 200"),
    Row("invitations:new_link", "302 404 403 403 422 422 422", method="post"),
    Row("invitations:by_mail", "302 404 403 403 200 200 200"),
    Row("invitations:by_mail", "302 404 403 403 422 422 422", method="post"),
    Row("invitations:upload", "302 404 403 403 200 200 200"),
    Row("invitations:upload", "302 404 403 403 422 422 422", method="post"),
    Row("invitations:template", "302 404 403 403 200 200 200"),
    Row("invitations:import", "302 404 403 403 404 404 404"),
    Row("invitations:import", "302 404 403 403 404 404 404", method="post"),
    Row("invitations:progress", "302 404 403 403 404 404 404"),
    Row("invitations:link", "302 404 403 403 200 200 200"),
    Row("invitations:send", "302 404 403 403 302 302 302", method="post"),
    Row("invitations:revoke", "302 404 403 403 302 302 302", method="post"),
    Row("roles:list", "302 404 403 403 200 200 200"),
    Row("roles:new", "302 404 403 403 200 200 200"),
    Row("roles:new", "302 404 403 403 422 422 422", method="post"),
    Row("roles:edit", "302 404 403 403 403 200 200"),
    Row("roles:edit", "302 404 403 403 403 422 422", method="post"),
    Row("roles:copy", "302 404 403 403 403 302 302", method="post"),
    Row("roles:delete", "302 404 403 403 403 200 200"),
    Row("roles:delete", "302 404 403 403 403 422 422", method="post"),
    Row("calendar:preview", "302 404 403 403 200 200 200"),
    Row("zdr:reach", "302 404 403 403 403 403 200"),
    Row("orgs:approval_reach", "302 404 403 403 403 403 200"),
    Row("audit:list", "302 404 403 403 200 200 200"),
    Row("audit:event", "302 404 403 403 200 200 200"),
    Row("audit:export", "302 404 403 403 200 200 200"),
    Row("audit:verify", "302 404 403 403 403 403 302", method="post"),
    Row("groups:tree", "302 404 403 403 200 200 200"),
    Row("groups:group", "302 404 403 403 200 200 200"),
    Row("groups:new", "302 404 403 403 200 200 200"),
    Row("groups:new", "302 404 403 403 422 422 422", method="post"),
    Row("groups:edit", "302 404 403 403 200 200 200"),
    Row("groups:edit", "302 404 403 403 422 422 422", method="post"),
    Row("groups:move", "302 404 403 403 200 200 200"),
    Row("groups:move", "302 404 403 403 200 200 200", method="post"),
    Row("groups:archive", "302 404 403 403 200 200 200"),
    Row("groups:archive", "302 404 403 403 422 422 422", method="post"),
    Row("groups:restore", "302 404 403 403 302 302 302", method="post"),
    Row("applications:list", "302 404 403 403 200 200 200"),
    Row("applications:application", "302 404 403 403 200 200 200"),
    Row("applications:new", "302 404 403 403 200 200 200"),
    Row("applications:new", "302 404 403 403 422 422 422", method="post"),
    Row("applications:edit", "302 404 403 403 200 200 200"),
    Row("applications:edit", "302 404 403 403 422 422 422", method="post"),
    Row("applications:archive", "302 404 403 403 200 200 200"),
    Row("applications:archive", "302 404 403 403 422 422 422", method="post"),
    Row("applications:restore", "302 404 403 403 302 302 302", method="post"),
    Row("analytics:first_steps", "302 404 403 403 403 403 200"),
    Row("analytics:close_first_steps", "302 404 403 403 403 403 302", method="post"),
    Row("analytics:groups_use", "302 404 403 403 200 200 200"),
    Row("analytics:applications_use", "302 404 403 403 200 200 200"),
    Row("analytics:application_use", "302 404 403 403 200 200 200"),
    Row("guardrails:keys", "302 404 200 200 200 200 200"),
    Row("guardrails:new_key", "302 404 200 200 200 200 200"),
    Row("guardrails:attribution", "302 404 200 200 200 200 200"),
    Row("guardrails:key", "302 404 404 200 200 200 200"),
    Row("guardrails:bulk", "302 404 422 422 422 422 422"),
    Row("guardrails:bulk", "302 404 422 422 422 422 422", method="post"),
    Row("guardrails:oddities", "302 404 404 200 200 200 200"),
    Row("guardrails:history", "302 404 404 200 200 200 200"),
    Row("guardrails:edit", "302 404 404 200 200 200 200"),
    Row("guardrails:edit", "302 404 404 422 422 422 422", method="post"),
    Row("guardrails:rotate", "302 404 404 200 200 200 200"),
    Row("guardrails:rotate", "302 404 404 422 422 422 422", method="post"),
    Row("guardrails:end_old", "302 404 404 302 302 302 302", method="post"),
    Row("guardrails:limits", "302 404 404 200 200 200 200"),
    Row("guardrails:limits", "302 404 404 302 302 302 302", method="post"),
    Row("guardrails:disable", "302 404 404 302 302 302 302", method="post"),
    Row("guardrails:enable", "302 404 404 302 302 302 302", method="post"),
    Row("guardrails:delete", "302 404 404 200 200 200 200"),
    Row("guardrails:delete", "302 404 404 422 422 422 422", method="post"),
    Row("provider_keys:list", "302 404 403 403 403 200 200"),
    Row("provider_keys:new", "302 404 403 403 403 200 200"),
    Row("provider_keys:new", "302 404 403 403 403 422 422", method="post"),
    Row("provider_keys:edit", "302 404 403 403 403 200 200"),
    Row("provider_keys:edit", "302 404 403 403 403 422 422", method="post"),
    Row("provider_keys:test", "302 404 403 403 403 302 302", method="post"),
    Row("provider_keys:disable", "302 404 403 403 403 302 302", method="post"),
    Row("provider_keys:enable", "302 404 403 403 403 302 302", method="post"),
    Row("provider_keys:delete", "302 404 403 403 403 200 200"),
    Row("provider_keys:delete", "302 404 403 403 403 302 404", method="post"),
    Row("simulations:list", "302 404 403 403 200 200 200"),
    Row("simulations:new", "302 404 403 403 200 200 200"),
    Row("simulations:new", "302 404 403 403 422 422 422", method="post"),
    Row("simulations:one", "302 404 403 403 404 404 404"),
    Row("simulations:progress", "302 404 403 403 404 404 404"),
    Row("simulations:cancel", "302 404 403 403 404 404 404", method="post"),
    Row("simulations:again", "302 404 403 403 404 404 404", method="post"),
    Row("simulations:delete", "302 404 403 403 404 404 404"),
    Row("simulations:delete", "302 404 403 403 404 404 404", method="post"),
    Row("policies:policies", "302 404 200 200 200 200 200"),
    Row("policies:mine", "302 404 200 200 200 200 200"),
    Row("policies:new", "302 404 403 403 200 200 200"),
    Row("policies:new", "302 404 403 403 422 422 422", method="post"),
    Row("policies:limit_row", "302 404 403 403 200 200 200"),
    Row("policies:policy", "302 404 403 403 200 200 200"),
    Row("policies:oddities", "302 404 403 403 200 200 200"),
    Row("policies:history", "302 404 403 403 200 200 200"),
    Row("policies:edit", "302 404 403 403 403 200 200"),
    Row("policies:edit", "302 404 403 403 403 422 422", method="post"),
    Row("policies:copy", "302 404 403 403 302 302 302", method="post"),
    Row("policies:delete", "302 404 403 403 403 200 200"),
    Row("policies:delete", "302 404 403 403 403 422 422", method="post"),
    Row("policies:bind", "302 404 403 403 200 200 200"),
    Row("policies:bind", "302 404 403 403 422 422 422", method="post"),
    Row("policies:subjects", "302 404 403 403 200 200 200"),
    Row("policies:override", "302 404 403 403 404 404 404"),
    Row("policies:reset", "302 404 403 403 404 404 404"),
    Row("policies:unbind", "302 404 403 403 403 302 404", method="post"),
    Row("policies:end", "302 404 403 403 403 302 302", method="post"),
    Row("policies:resume", "302 404 403 403 403 302 302", method="post"),
    Row("routing:page", "302 404 403 403 200 200 200"),
    Row("routing:health", "302 404 403 403 200 200 200"),
    Row("routing:which", "302 404 200 200 200 200 200"),
    Row("routing:which", "302 404 422 422 422 422 422", method="post"),
    Row("routing:new_alias", "302 404 403 403 200 200 200"),
    Row("routing:new_alias", "302 404 403 403 422 422 422", method="post"),
    Row("routing:edit_alias", "302 404 403 403 200 200 200"),
    Row("routing:edit_alias", "302 404 403 403 422 422 422", method="post"),
    Row("routing:delete_alias", "302 404 403 403 200 200 200"),
    Row("routing:delete_alias", "302 404 403 403 422 422 422", method="post"),
    Row("routing:add_candidate", "302 404 403 403 403 403 302", method="post"),
    Row("routing:remove_candidate", "302 404 403 403 403 403 302", method="post"),
    Row("routing:move_candidate", "302 404 403 403 403 403 302", method="post"),
    Row("routing:set_baseline", "302 404 403 403 403 403 302", method="post"),
    Row("presets:list", "302 404 200 200 200 200 200"),
    Row("presets:preset", "302 404 404 200 200 200 200"),
    Row("presets:new", "302 404 403 403 200 200 200"),
    Row("presets:new", "302 404 403 403 422 422 422", method="post"),
    Row("presets:edit", "302 404 403 403 200 200 200"),
    Row("presets:edit", "302 404 403 403 422 422 422", method="post"),
    Row("presets:archive", "302 404 403 403 302 302 302", method="post"),
    Row("presets:restore", "302 404 403 403 302 302 302", method="post"),
    Row("analytics:savings", "302 404 403 403 200 200 200"),
    Row("analytics:presets_use", "302 404 200 200 200 200 200"),
    Row("analytics:overview", "302 404 200 200 200 200 200"),
    Row("analytics:find", "302 404 200 200 200 200 200"),
    Row("analytics:limits_near", "302 404 200 200 200 200 200"),
    Row("analytics:calls_file", "302 404 200 200 200 200 200"),
    Row("analytics:calls", "302 404 200 200 200 200 200"),
    Row("analytics:call", "302 404 404 404 404 404 404"),
    Row("analytics:keys_use", "302 404 200 200 200 200 200"),
    Row("analytics:members_use", "302 404 403 403 200 200 200"),
    Row("analytics:key_limits", "302 404 404 200 200 200 200"),
    Row("analytics:key_usage", "302 404 404 200 200 200 200"),
    Row("analytics:key_calls", "302 404 404 200 200 200 200"),
    Row("sso:start", "200 200 200 200 200 200 200"),
    Row("sso:start", "302 302 302 302 302 302 302", method="post"),
    Row("sso:callback", "404 404 404 404 404 404 404"),
    Row("sso:acs", "403 403 403 403 403 403 403", method="post"),
    Row("sso:finish", "403 403 403 403 403 403 403"),
    Row("sso:metadata", "200 200 200 200 200 200 200"),
    Row("sso_console:connections", "302 404 403 403 403 403 200"),
    Row("sso_console:new", "302 404 403 403 403 403 200"),
    Row("sso_console:new", "302 404 403 403 403 403 422", method="post"),
    Row("sso_console:connection", "302 404 403 403 403 403 200"),
    Row("sso_console:configure", "302 404 403 403 403 403 422", method="post"),
    Row("sso_console:use", "302 404 403 403 403 403 422", method="post"),
    Row("sso_console:test", "302 404 403 403 403 403 302", method="post"),
    Row("sso_console:trial", "302 404 403 403 403 403 302", method="post"),
    Row("sso_console:enable", "302 404 403 403 403 403 302", method="post"),
    Row("sso_console:disable", "302 404 403 403 403 403 302", method="post"),
    Row("sso_console:people", "302 404 403 403 403 403 200"),
    Row("sso_console:disconnect", "302 404 403 403 403 403 302", method="post"),
    Row("sso_console:delete", "302 404 403 403 403 403 200"),
    Row("sso_console:delete", "302 404 403 403 403 403 302", method="post"),
    Row("sso_console:domains", "302 404 403 403 403 403 200"),
    Row("sso_console:domains", "302 404 403 403 403 403 422", method="post"),
    Row("sso_console:check", "302 404 403 403 403 403 302", method="post"),
    Row("sso_console:send_code", "302 404 403 403 403 403 302", method="post"),
    Row("sso_console:prove", "302 404 403 403 403 403 422", method="post"),
    Row("sso_console:require", "302 404 403 403 403 403 302", method="post"),
    Row("sso_console:remove", "302 404 403 403 403 403 200"),
    Row("sso_console:remove", "302 404 403 403 403 403 302", method="post"),
]


@pytest.fixture
def world(lasting_world: World, lasting_sessions: dict[str, str], db: None) -> World:
    return deepcopy(lasting_world)


@functools.cache
def own_routes() -> list[Route]:
    """Without those of the API, which have a table of their own: test_api_routes.py."""
    return [route for route in routes_of(URLCONF) if route.name not in ALLAUTH and not is_of_the_api(route)]


def is_of_the_api(route: Route) -> bool:
    door = door_of(route.view)
    return door is not None and door.kind == "api"


def undeclared(urlconf: str) -> list[str]:
    """A view from elsewhere needs a line in ALLAUTH, one of ours a door."""
    return [route.name for route in routes_of(urlconf) if door_of(route.view) is None and route.name not in ALLAUTH]


def test_every_route_declares_who_may_pass() -> None:
    assert undeclared(URLCONF) == []


def test_a_route_that_declares_nothing_is_found() -> None:
    assert undeclared("tests.orgs.door_urls") == ["/undeclared/"]


def test_a_path_names_an_organisation_exactly_where_its_door_needs_one() -> None:
    for route in [*own_routes(), *routes_of("tests.orgs.door_urls")]:
        door = door_of(route.view)
        behind_org_view = door is not None and door.kind == "organization"
        assert behind_org_view == route.path.startswith("/o/<slug:org>/"), route
        assert not behind_org_view or (door and door.permissions), route


def test_the_walk_finds_what_is_there() -> None:
    found = {route.name: route.path for route in routes_of(URLCONF)}
    assert found["orgs:home"] == "/"
    assert found["orgs:switch"] == "/switch/<slug:org>/"
    assert found["account_login"] == "/accounts/login/"
    assert set(found) >= ALLAUTH


@pytest.mark.parametrize(
    "name",
    [
        "account_email",
        "account_change_password",
        "socialaccount_connections",
        "mfa_index",
        "mfa_activate_totp",
        "usersessions_list",
    ],
)
def test_allauths_pages_of_a_person_need_a_sign_in(client: Client, name: str) -> None:
    assert client.get(reverse(name)).headers["location"].startswith("/accounts/login/?next=")


def test_every_route_is_tried() -> None:
    assert {route.name for route in own_routes()} - {row.name for row in ROWS} == set()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.method} {row.name}")
def test_everyone_gets_what_the_table_says(
    world: World, lasting_sessions: dict[str, str], arguments: dict[str, Any], row: Row
) -> None:
    route = next(route for route in own_routes() if route.name == row.name)
    arguments = arguments | MORE.get(row.name.partition(":")[0], _nothing)(world)
    url = reverse(row.name, kwargs={name: value for name, value in arguments.items() if name in route.arguments})
    expected = row.codes.split()
    people = {PEOPLE[place]: expected[place] for place in tried(expected, ROWS.index(row))}
    assert {person: str(_visit(lasting_sessions.get(person), row, url)) for person in people} == people


# --- the menu ------------------------------------------------------------------------------------


def test_an_entry_of_the_menu_asks_for_what_its_page_asks_for() -> None:
    """Whoever has any permission is a member, and sees its own things."""
    views = {route.name: route.view for route in own_routes()}
    everyone = Permission.VIEW_OWN
    for entry in [*ENTRIES, *TABS]:
        door, asked = door_of(views[entry.url_name]), {entry.permission, *entry.also_with}
        assert door, entry
        assert entry.tabs or set(door.permissions) == asked or everyone in asked.intersection(door.permissions), entry


def test_the_menu_shows_an_entry_to_exactly_those_whose_page_opens(world: World) -> None:
    codes = {row.name: dict(zip(PEOPLE, row.codes.split(), strict=True)) for row in ROWS if row.method == "get"}
    for person in ("noah", "mia", "sam", "lena", "alice"):
        actor = world.actor(person)
        for entry in [*ENTRIES, *TABS]:
            assert entry.may_be_seen_by(actor) == (codes[entry.pages(actor)[0]][person] == "200"), (person, entry)


@pytest.mark.parametrize(
    "permission",
    [Permission.MANAGE_MEMBERS, Permission.MANAGE_GROUPS, Permission.MANAGE_APPLICATIONS, Permission.MANAGE_SETTINGS],
)
def test_so_it_does_to_whoever_holds_one_permission_alone(world: World, permission: Permission) -> None:
    alice = world.actor("alice")
    role = create_role(world.engineering, name="One", permissions=[permission], by=alice)
    grant_role(world.mia, role=role, group=world.engineering, by=alice)
    actor, client = world.actor("mia"), Client()
    client.force_login(world.mia)
    for entry in [*ENTRIES, *TABS]:
        response = client.get(reverse(entry.pages(actor)[0], kwargs={"org": world.acme.slug}))
        assert (response.status_code == 200) == entry.may_be_seen_by(actor), entry


def _visit(session: str | None, row: Row, url: str) -> int:
    response = getattr(with_session(session), row.method)(url, row.data or {})
    code: int = response.status_code
    return code


@pytest.fixture(scope="module")
def arguments(lasting_world: World, django_db_blocker: DjangoDbBlocker) -> dict[str, Any]:
    with django_db_blocker.unblock():
        return arguments_of(lasting_world)


def arguments_of(world: World) -> dict[str, Any]:
    return {
        "org": world.acme.slug,
        "key_id": world.key.pk,
        "group_id": world.gateway.pk,
        "application_id": world.assistant.pk,
        "member_id": world.actor("mia").memberships[0].pk,
        "user_id": world.mia.pk,
        "organization_id": world.acme.pk,
        "call_id": UUID(int=7),
        "simulation_id": 7 * 10**15,
        "request_id": 0,
        "token_id": 0,
        "sequence": AuditEvent.objects.filter(organization=world.acme, object_type="apikey").latest("pk").sequence,
        "import_id": 0,
        "token": "no-invitation-has-this-token",
        "session_id": 0,
        "directory_group_id": 0,
        "name": "User",
        "resource_id": "1",
    }


def _guardrails(world: World) -> dict[str, Any]:
    alice = world.actor("alice")
    policy = create_policy(world.acme, name="Team", limits=[LimitSpec("rpm", "minute", 5)], by=alice)
    binding = bind(policy, subject=world.platform, by=alice)
    until = timezone.now() + timedelta(days=1)
    override = add_override(policy.limits.get(), subject=world.platform, amount=5, until=until, by=alice)
    return {"policy_id": policy.pk, "binding_id": binding.pk, "override_id": override.pk}


def _provider_key(world: World) -> dict[str, Any]:
    """On Lena's node; of a provider that serves nothing here, so that a test sends nothing."""
    key = provider_keys.add(
        world.engineering, place=Place("mistral", None), name="Ours", secret="sk-0123456789", by=world.actor("alice")
    )
    return {"provider_key_id": key.pk}


def _names(world: World) -> dict[str, Any]:
    """On Sam's own node."""
    sam = world.actor("sam")
    alias = create_alias(world.platform, name="ours", model="auto", by=sam)
    preset = create_preset(world.platform, name="polite", words=PresetWords("auto"), by=sam)
    return {"alias_id": alias.pk, "preset_id": preset.pk}


def _people(world: World) -> dict[str, Any]:
    """Mia, and a grant of hers below Sam's node."""
    made = grant_role(world.mia, role=RoleName.FINANCE, group=world.gateway, by=world.actor("sam"))
    return {"person_id": world.mia.pk, "grant_id": made.pk}


def _role(world: World) -> dict[str, Any]:
    """At home at Sam's own node."""
    role = create_role(world.platform, name="Watcher", permissions=[Permission.VIEW_USAGE], by=world.actor("lena"))
    return {"role_id": role.pk}


def _invitation(world: World) -> dict[str, Any]:
    """Into the group below Sam's node."""
    made = invite(world.gateway, email="ada@example.test", by=world.actor("lena"))
    return {"invitation_id": made.pk}


def _nothing(world: World) -> dict[str, Any]:
    return {}


# What the routes of a namespace are about.
def _sso(world: World) -> dict[str, Any]:
    """A SAML connection that is on, with a certificate that nobody holds the key of, and a domain."""
    connection = SsoConnection.objects.create(
        organization=world.acme,
        kind=SsoConnection.Kind.SAML,
        name="Acme SAML",
        issuer="https://idp.example/",
        sso_url="https://idp.example/sso",
        certificates=["AAAA"],
        group=world.field,
        enabled=True,
        created_by=world.alice,
    )
    domain = Domain.objects.create(organization=world.acme, name=f"{world.acme.pk}.example", created_by=world.alice)
    mia = connection.identities.create(user=world.mia, uid="mia")
    return {"slug": connection.slug, "connection_id": connection.pk, "domain_id": domain.pk, "identity_id": mia.pk}


MORE: dict[str, Callable[[World], dict[str, Any]]] = {
    "members": _people,
    "invitations": _invitation,
    "roles": _role,
    "policies": _guardrails,
    "provider_keys": _provider_key,
    "routing": _names,
    "presets": _names,
    "sso": _sso,
    "sso_console": _sso,
}
