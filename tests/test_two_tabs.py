"""Two people, or two tabs, open the same form: who saves second undoes nothing of what the first has saved.

Every form that is filled from what is there is one of CASES: the first tab changes one field, the second another.
"""

from __future__ import annotations

from collections.abc import Callable
from html import unescape
from typing import Any, NamedTuple

import pytest
from django.db import connection, models
from django.test.utils import CaptureQueriesContext

from gateway_project.lib.filled import Filled
from guardrails.forms import AttributionForm, LimitsForm, NewKeyForm
from guardrails.key_forms import EditKeyForm
from guardrails.models import Policy
from guardrails.policy_forms import PolicyForm
from guardrails.selectors import own_limits
from guardrails.services.key_limits import set_key_limits
from guardrails.services.policies import LimitSpec, create_policy
from orgs.forms import SettingsForm
from orgs.group_forms import ApplicationForm, GroupForm, NewGroupForm, Owned
from orgs.models import ApiKey, Application, AuditEvent, Group, Organization, Role
from orgs.permissions import Permission
from orgs.provisioning_forms import LinkForm, TokenForm
from orgs.role_forms import RoleForm
from orgs.scim_models import DirectoryGroup, Provisioning
from orgs.services import sso
from orgs.services.groups import change_group
from orgs.services.provisioning import issue_token
from orgs.services.roles import create_role
from orgs.sso_forms import NewConnectionForm, OidcForm, SamlForm, UseForm
from orgs.sso_models import SsoConnection
from proxy import naming_services, provider_keys
from proxy.canonical.preset import Parameters
from proxy.models import Alias, Deployment, Model, Preset, Provider, ProviderKey
from proxy.naming_forms import PresetForm, TargetForm
from proxy.provider_key_forms import ChangeForm
from proxy.provider_keys import Place
from tests.actors import World, signed_in
from tests.opened import form_in, opened
from tests.orgs.sso_world import verified_domain
from tests.statements import whole

DOLLAR = 10**9
OVERTAKEN = "Somebody has changed this since you opened it."
Things = tuple[str, Callable[[], Any]]


def policy(world: World) -> Things:
    limits = [LimitSpec("budget", "month", 5 * DOLLAR)]
    found = create_policy(world.acme, name="Team", limits=limits, rules={"models": ["a*"]}, by=world.actor("alice"))

    def state() -> Any:
        fresh = Policy.objects.get(pk=found.pk)
        return fresh.limits.get().value, fresh.rules.get().entries, fresh.description

    return f"guardrails/{found.pk}/edit/", state


def key_limits(world: World) -> Things:
    set_key_limits(world.key, by=world.actor("alice"), monthly_nano_usd=5 * DOLLAR)

    return f"keys/{world.key.pk}/limits/", lambda: own_limits(ApiKey.objects.get(pk=world.key.pk))


def key(world: World) -> Things:
    return f"keys/{world.key.pk}/edit/", reader(ApiKey, world.key.pk, "name", "expires_at")


def settings(world: World) -> Things:
    return "settings/", reader(Organization, world.acme.pk, "reset_hour", "week_start")


def group(world: World) -> Things:
    return f"groups/{world.field.pk}/edit/", reader(Group, world.field.pk, "cost_center", "kind")


def application(world: World) -> Things:
    return f"applications/{world.assistant.pk}/edit/", reader(Application, world.assistant.pk, "environments", "cost_center")


def role(world: World) -> Things:
    made = create_role(world.root, name="Lead", permissions=[Permission.VIEW_USAGE], by=world.actor("alice"))
    return f"roles/{made.pk}/edit/", reader(Role, made.pk, "permissions", "description")


def preset(world: World) -> Things:
    words = naming_services.PresetWords("m", "", "", Parameters(temperature=0.5))
    made = naming_services.create_preset(world.root, name="polite", words=words, by=world.actor("alice"))
    return f"presets/{made.pk}/edit/", reader(Preset, made.pk, "system_prompt", "description")


def alias(world: World) -> Things:
    made = naming_services.create_alias(world.root, name="our-best", model="m", by=world.actor("alice"))
    return f"routing/aliases/{made.pk}/edit/", reader(Alias, made.pk, "name", "model")


def provider_key(world: World) -> Things:
    provider = Provider.objects.get(name="scripted")
    made = provider_keys.add(
        world.root, place=Place(provider.kind, provider), name="Ours", secret="sk-live-abcdefgh1234", by=world.actor("alice")
    )
    return f"provider-keys/{made.pk}/edit/", reader(ProviderKey, made.pk, "falls_back", "name")


def connection_of(world: World, kind: SsoConnection.Kind) -> SsoConnection:
    return sso.create_connection(kind, name="Acme ID", group=world.field, admits_new=True, by=world.actor("alice"))


def use(world: World) -> Things:
    made = connection_of(world, SsoConnection.Kind.SAML)
    return f"security/sso/{made.pk}/use/", reader(SsoConnection, made.pk, "idp_initiated", "name")


def oidc(world: World) -> Things:
    made = connection_of(world, SsoConnection.Kind.OIDC)
    return f"security/sso/{made.pk}/provider/", reader(SsoConnection, made.pk, "name", "client_id")


def directory(world: World) -> Things:
    verified_domain(world.acme, world.alice)
    issue_token(group=world.root, by=world.actor("alice"))
    row = Provisioning.objects.get(organization=world.acme)
    return "security/provisioning/group/", reader(Provisioning, row.pk, "pk", "group")


def link(world: World) -> Things:
    directory(world)
    row = DirectoryGroup.objects.create(organization=world.acme, display_name="Writers")
    return f"security/provisioning/groups/{row.pk}/", reader(DirectoryGroup, row.pk, "group", "role")


def reader(model: Any, pk: int, *names: str) -> Callable[[], Any]:
    return lambda: model.objects.values_list(*names).get(pk=pk)


class Case(NamedTuple):
    """`made` makes the thing and answers with the path of its form below the organisation, and with what reads it; `says`: what
    is told of the first tab's change; `page`: the end of the form's path that its page does not have."""

    form: type[Filled]
    made: Callable[[World], Things]
    first: dict[str, str]
    second: dict[str, str]
    says: str
    page: str = ""


CASES = [
    Case(PolicyForm, policy, {"value": "7"}, {"description": "ours"}, "Limits: Budget per month $7"),
    Case(PolicyForm, policy, {"models": "a*\nb*"}, {"value": "9"}, "Allowed models: a* b*"),
    Case(LimitsForm, key_limits, {"rpm": "2"}, {"max_tokens": "100"}, "Requests per minute: 2"),
    Case(LimitsForm, key_limits, {"monthly_nano_usd": ""}, {"max_tokens": "100"}, "Budget per month: nothing"),
    Case(EditKeyForm, key, {"expires_on": "2099-12-31"}, {"name": "Ours"}, "Valid until: 2099-12-31"),
    Case(SettingsForm, settings, {"reset_hour": "6"}, {"week_start": "2"}, "Days begin at: 06:00"),
    Case(SettingsForm, settings, {"attribution_required": "on"}, {"week_start": "2"}, "Require attribution: on"),
    Case(GroupForm, group, {"cost_center": "4711"}, {"kind": "Team"}, "Cost centre: 4711"),
    Case(ApplicationForm, application, {"environments": "test"}, {"cost_center": "12"}, "Environments: test"),
    Case(
        RoleForm, role, {"permissions": "view_audit"}, {"description": "of a team"}, f"Permissions: {Permission.VIEW_AUDIT.label}"
    ),
    Case(PresetForm, preset, {"system_prompt": "Be kind."}, {"description": "kind"}, "System prompt: Be kind."),
    Case(TargetForm, alias, {"model": "auto"}, {"model": "auto:best"}, "Model: auto"),
    Case(ChangeForm, provider_key, {"falls_back": "on"}, {"name": "Theirs"}, "own key: on"),
    Case(TokenForm, directory, {"group": "sales"}, {"group": "field"}, "Everybody becomes a member of: sales"),
    Case(LinkForm, link, {"group": "sales"}, {"role": "admin", "group": "field"}, "Members of: sales"),
    Case(UseForm, use, {"name": "Acme"}, {"idp_initiated": "on"}, "Name: Acme", "use/"),
]


TABLES: dict[type[Filled], type[models.Model]] = {
    PolicyForm: Policy, LimitsForm: ApiKey, EditKeyForm: ApiKey, SettingsForm: Organization, GroupForm: Group,
    ApplicationForm: Application, RoleForm: Role, PresetForm: Preset, TargetForm: Alias, ChangeForm: ProviderKey,
    TokenForm: Provisioning, LinkForm: DirectoryGroup, UseForm: SsoConnection,
}  # fmt: skip


@pytest.fixture
def offered(empty_catalogue: None) -> None:
    """What a preset, an alias and an own key are about."""
    provider = Provider.objects.create(name="scripted", kind="openai-compatible", base_url="https://scripted.example")
    Deployment.objects.create(model=Model.objects.create(name="m"), provider=provider, upstream_model="m")


@pytest.fixture(params=CASES, ids=lambda case: f"{case.made.__name__}-{next(iter(case.first))}")
def case(request: pytest.FixtureRequest) -> Case:
    found: Case = request.param
    return found


def test_who_saves_second_undoes_nothing(world: World, offered: None, case: Case) -> None:
    path, state = case.made(world)
    action = f"/o/{world.acme.slug}/{path}"
    page, client = action.removesuffix(case.page), signed_in(world)
    first, second = opened(client, page, action), opened(signed_in(world), page, action)
    assert client.post(action, first | typed(world, case.first)).status_code == 302
    saved, events = state(), AuditEvent.objects.count()

    refused = client.post(action, second | typed(world, case.second))
    text = unescape(refused.content.decode())
    assert refused.status_code == 422
    assert OVERTAKEN in text
    assert case.says in text
    assert (state(), AuditEvent.objects.count()) == (saved, events)

    again = form_in(refused.content.decode(), action)
    assert again | typed(world, case.second) == again
    assert client.post(action, again).status_code == 302
    assert state() != saved


def test_a_form_that_nobody_has_overtaken_is_saved(world: World, offered: None, case: Case) -> None:
    path, state = case.made(world)
    action = f"/o/{world.acme.slug}/{path}"
    client = signed_in(world)
    untouched = opened(client, action.removesuffix(case.page), action)
    before = state()
    assert client.post(action, untouched).status_code == 302
    assert state() == before
    assert client.post(action, untouched | typed(world, case.second)).status_code == 302
    assert state() != before


def test_who_presses_save_twice_is_told_of_nobody_else(world: World, offered: None, case: Case) -> None:
    path, state = case.made(world)
    action = f"/o/{world.acme.slug}/{path}"
    client = signed_in(world)
    sent = opened(client, action.removesuffix(case.page), action) | typed(world, case.first)
    assert client.post(action, sent).status_code == 302
    saved = state()
    assert client.post(action, sent).status_code == 302
    assert state() == saved


def test_it_is_compared_while_nobody_else_changes_the_organisation(world: World, offered: None, case: Case) -> None:
    """The organisation's row is locked before anything that the form shows is read."""
    path, _ = case.made(world)
    action = f"/o/{world.acme.slug}/{path}"
    client = signed_in(world)
    sent = opened(client, action.removesuffix(case.page), action)
    with CaptureQueriesContext(connection) as queries:
        client.post(action, sent | typed(world, case.second))
    statements = whole(queries)
    table = TABLES[case.form]._meta.db_table
    locked = next(at for at, sql in enumerate(statements) if "FOR NO KEY UPDATE" in sql)
    read = [at for at, sql in enumerate(statements) if f'FROM "{table}"' in sql]
    assert read
    assert min(read) > locked or case.form is SettingsForm  # whose row the door reads, and the view again


def test_every_form_that_is_filled_from_what_is_there_is_tried_here() -> None:
    making = {NewKeyForm, AttributionForm, Owned, NewGroupForm, NewConnectionForm}
    asking = {OidcForm, SamlForm}
    assert set(below(Filled)) - making == {case.form for case in CASES} | asking


def test_a_form_without_digests_is_taken_as_it_is(world: World) -> None:
    typed = opened(signed_in(world), f"/o/{world.acme.slug}/groups/{world.field.pk}/edit/")
    del typed["as_of"]
    change_group(world.field, by=world.actor("alice"), kind="Region")
    answer = signed_in(world).post(f"/o/{world.acme.slug}/groups/{world.field.pk}/edit/", typed)
    assert (answer.status_code, Group.objects.get(pk=world.field.pk).kind) == (302, "")


def test_what_makes_something_new_carries_no_digests(world: World) -> None:
    for path in ("groups/new/", "guardrails/new/", "roles/new/", "keys/new/"):
        page = signed_in(world).get(f"/o/{world.acme.slug}/{path}").content.decode()
        assert 'name="name"' in page
        assert "as_of" not in page


def typed(world: World, fields: dict[str, str]) -> dict[str, Any]:
    """Groups are named by where they are in the world."""
    return {name: str(getattr(world, value).pk) if name == "group" else value for name, value in fields.items()}


def below(form: type[Filled]) -> list[type[Filled]]:
    return [found for each in form.__subclasses__() for found in (each, *below(each))]
