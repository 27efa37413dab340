"""Own provider keys: who may do what, what is kept of them, and what the audit trail says."""

from __future__ import annotations

import base64
from io import StringIO
from typing import Any

import pytest
from allauth.mfa.adapter import get_adapter
from allauth.mfa.models import Authenticator
from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
from allauth.mfa.totp.internal.auth import TOTP
from django.core.management import call_command
from django.db import connection
from django.http import Http404
from django.test import override_settings

from gateway_project.lib import crypto
from orgs import epoch
from orgs.errors import NotAllowed, Refused
from orgs.models import AuditEvent, Group
from orgs.services.invitations import invite, link_token
from orgs.sso_models import SsoConnection
from proxy import catalogue, own_keys, provider_keys, rotating
from proxy.models import Deployment, Model, Provider, ProviderKey
from proxy.provider_keys import Place
from tests.actors import World

SECRET = "sk-live-abcdefgh1234"
OPENAI = Place("openai", None)


@pytest.fixture
def providers(empty_catalogue: None) -> dict[str, Provider]:
    """One of OpenAI's, one that only its operator knows the address of, the sandbox, and one that serves nothing."""
    kinds = {"openai-eu": "openai", "vllm": "openai-compatible", "playground": "sandbox", "idle": "mistral"}
    made = {name: Provider.objects.create(name=name, kind=kind) for name, kind in kinds.items()}
    for name, provider in made.items():
        if name != "idle":
            model = Model.objects.create(name=f"{name}-model")
            Deployment.objects.create(model=model, provider=provider, upstream_model="m")
    return made


def add(world: World, group: Group | None = None, *, by: str = "alice", place: Place = OPENAI, **more: Any) -> ProviderKey:
    wanted: dict[str, Any] = {"name": "Ours", "secret": SECRET, **more}
    return provider_keys.add(group or world.root, place=place, by=world.actor(by), **wanted)


def opened(key: ProviderKey) -> str | None:
    fresh = ProviderKey.objects.get(pk=key.pk)
    return own_keys.opened(own_keys.Stored(*(getattr(fresh, name) for name in own_keys.Stored._fields))).secret


def test_it_is_kept_encrypted_and_opens_in_its_row_alone(world: World) -> None:
    key = add(world, secret=f"  {SECRET}\n")
    assert (opened(key), key.last_four) == (SECRET, "1234")
    assert SECRET not in key.key_encrypted
    other = add(world, world.engineering)
    ProviderKey.objects.filter(pk=other.pk).update(key_encrypted=key.key_encrypted)
    assert opened(other) is None


def test_every_change_is_audited_without_the_secret(world: World) -> None:
    alice = world.actor("alice")
    key = add(world)
    key = provider_keys.change(key, name="Theirs", secret="sk-live-other-secret9876", base_url="", falls_back=True, by=alice)
    provider_keys.set_enabled(key, False, by=alice)
    provider_keys.set_enabled(key, False, by=alice)
    provider_keys.set_enabled(key, True, by=alice)
    provider_keys.note_test(key, passed=False, result="No." * 200, by=alice)
    provider_keys.delete(key, by=alice)
    events = list(AuditEvent.objects.filter(organization=world.acme, action__startswith="provider_key").order_by("pk"))
    assert [event.action.partition(".")[2] for event in events] == [
        "added", "changed", "disabled", "enabled", "tested", "deleted",
    ]  # fmt: skip
    assert (events[1].before["last four"], events[1].after["last four"], events[1].after["replaced"]) == ("1234", "9876", True)
    told = " ".join(f"{event.before} {event.after}" for event in events)
    assert "abcdefgh" not in told
    assert "other-secret" not in told


def test_each_change_is_announced(world: World, django_capture_on_commit_callbacks: Any) -> None:
    from gateway_project.lib import redis

    client: Any = redis.client()
    name = epoch.keys(world.acme.pk)[0]
    before = client.get(name)
    with django_capture_on_commit_callbacks(execute=True):
        add(world)
    assert client.get(name) not in (before, None)


@pytest.mark.parametrize(
    ("who", "node", "may"),
    [
        ("alice", "root", True),
        ("alice", "gateway", True),
        ("lena", "engineering", True),
        ("lena", "gateway", True),
        ("lena", "root", False),
        ("lena", "sales", False),
        ("sam", "platform", False),
        ("sam", "gateway", False),
        ("mia", "gateway", False),
    ],
)
def test_super_admins_and_l1_admins_may_at_their_nodes_and_below(world: World, who: str, node: str, may: bool) -> None:
    group = getattr(world, node)
    key = add(world, group)
    actor = world.actor(who)
    if may:
        assert provider_keys.access_provider_key_by_id(actor, key.pk) == key
        assert key in provider_keys.visible_to(actor)
        provider_keys.delete(key, by=actor)
        return
    with pytest.raises(Http404):
        provider_keys.access_provider_key_by_id(actor, key.pk)
    assert key not in provider_keys.visible_to(actor)
    with pytest.raises(NotAllowed):
        provider_keys.delete(key, by=actor)
    with pytest.raises(NotAllowed):
        add(world, group, by=who, place=Place("mistral", None))


def test_another_organisations_is_not_there(world: World) -> None:
    key = add(world)
    charlie = world.actor("charlie")
    with pytest.raises(Http404):
        provider_keys.access_provider_key_by_id(charlie, key.pk)
    with pytest.raises(Refused, match="no such provider key"):
        provider_keys.delete(key, by=charlie)


def test_one_node_has_one_key_per_kind_and_per_provider(world: World, providers: dict[str, Provider]) -> None:
    add(world)
    with pytest.raises(Refused, match="already") as refused:
        add(world)
    assert refused.value.field == "place"
    exact = Place("openai", providers["openai-eu"])
    add(world, place=exact)
    with pytest.raises(Refused, match=r"openai-eu \(OpenAI\)"):
        add(world, place=exact)
    add(world, world.engineering)


@pytest.mark.parametrize("secret", ["", "   ", "schlüssel-0123456789", "sk\x00live", "x" * 20_001])
def test_what_is_no_key_is_refused(world: World, secret: str) -> None:
    with pytest.raises(Refused) as refused:
        add(world, secret=secret)
    assert refused.value.field == "secret"
    assert not secret.strip() or secret[:9] not in refused.value.message


@pytest.mark.parametrize(("secret", "shown"), [("short-1234", ""), ("exactly-1234", "1234"), ('{"type": "service"}', "")])
def test_the_last_characters_are_shown_of_keys_long_enough_to_stay_secret(world: World, secret: str, shown: str) -> None:
    assert add(world, secret=secret).last_four == shown


def test_an_address_is_taken_where_only_the_customer_knows_it(world: World, providers: dict[str, Provider]) -> None:
    vllm = Place("openai-compatible", providers["vllm"])
    key = add(world, place=vllm, base_url=" https://1.1.1.1/v1/ ")
    assert key.base_url == "https://1.1.1.1/v1"
    for place, url, says in (
        (OPENAI, "https://1.1.1.1/v1", "address of its own"),
        (vllm, "https://10.0.0.1/v1", "public addresses"),
        (vllm, "https://1.1.1.1/" + "x" * 500, "at most 500"),
    ):
        with pytest.raises(Refused, match=says) as refused:
            add(world, world.engineering, place=place, base_url=url)
        assert refused.value.field == "base_url"


def test_a_key_is_sent_to_no_other_address_than_it_was_entered_for(world: World, providers: dict[str, Provider]) -> None:
    key = add(world, place=Place("openai-compatible", providers["vllm"]), base_url="https://1.1.1.1/v1")
    changes: dict[str, Any] = {"name": "Ours", "falls_back": False, "by": world.actor("lena")}
    alice = changes | {"by": world.actor("alice")}
    for moved in ("https://8.8.8.8/v1", ""):
        with pytest.raises(Refused) as refused:
            provider_keys.change(key, secret="", base_url=moved, **alice)
        assert refused.value.field == "secret"
    assert provider_keys.change(key, secret="", base_url="https://1.1.1.1/v1/", **alice).base_url == "https://1.1.1.1/v1"
    moved_key = provider_keys.change(key, secret="sk-another-0000000", base_url="https://8.8.8.8/v1", **alice)
    assert (opened(moved_key), moved_key.base_url) == ("sk-another-0000000", "https://8.8.8.8/v1")


def test_a_replaced_key_has_not_been_tested(world: World) -> None:
    key = provider_keys.note_test(add(world), passed=True, result="It answered.", by=world.actor("alice"))
    assert (key.test_passed, key.test_result) == (True, "It answered.")
    kept = provider_keys.change(key, name="N", secret="", base_url="", falls_back=False, by=world.actor("alice"))
    assert kept.test_passed is True
    fresh = provider_keys.change(key, name="N", secret=SECRET, base_url="", falls_back=False, by=world.actor("alice"))
    assert (fresh.test_passed, fresh.tested_at, fresh.test_result) == (None, None, "")


def test_keys_are_for_what_models_here_are_served_by(providers: dict[str, Provider]) -> None:
    offered = {(place.kind, place.provider.name if place.provider else None) for place in provider_keys.places()}
    assert {("openai", None), ("openai", "openai-eu"), ("openai-compatible", "vllm")} <= offered
    assert not offered & {("sandbox", None), ("sandbox", "playground"), ("openai-compatible", None), ("mistral", "idle")}


# --- rotation ----------------------------------------------------------------------------------
def ring(*names: str) -> Any:
    keys = (f"{name}:{base64.urlsafe_b64encode(name.encode().ljust(32, b'-')).decode()}" for name in names)
    return override_settings(GATEHOUSE_KEYS=",".join(keys))


@pytest.fixture
def nothing_stored(db: None) -> None:
    """Rotation meets every row there is: those that other tests have committed are back after the test."""
    tables = ", ".join(store.model._meta.db_table for store in rotating.STORES if store is not rotating.PROVIDERS)
    with connection.cursor() as cursor:
        cursor.execute(f"TRUNCATE {tables} CASCADE")
    Provider.objects.update(api_key_encrypted="")


@pytest.mark.usefixtures("nothing_stored")
def test_all_that_is_stored_comes_under_the_first_key_once(world: World, providers: dict[str, Provider]) -> None:
    with ring("old"):
        keys = [add(world, group) for group in (world.root, world.engineering, world.sales)]
        operators = providers["vllm"]
        operators.api_key_encrypted = crypto.encrypt("sk-operator", bound_to=catalogue.bound_to(operators))
        operators.save()
        invitation = invite(world.gateway, by=world.actor("sam"))
        token = link_token(invitation)
    with ring("new", "old"):
        new = add(world, world.platform)
        out = StringIO()
        call_command("rotate_keys", stdout=out)
        assert "operator's providers: 1 encrypted anew, 0 already current, 0 cannot be opened" in out.getvalue()
        assert "own provider keys: 3 encrypted anew, 1 already current" in out.getvalue()
        assert "links of invitations: 1 encrypted anew" in out.getvalue()
        assert rotating.rotate(rotating.PROVIDER_KEYS, batch=2) == rotating.Rotated(0, 4)
    with ring("new"):
        assert {opened(key) for key in [*keys, new]} == {SECRET}
        operators.refresh_from_db()
        invitation.refresh_from_db()
        assert link_token(invitation) == token
        assert crypto.decrypt(operators.api_key_encrypted, bound_to=catalogue.bound_to(operators)) == "sk-operator"


@pytest.mark.usefixtures("nothing_stored")
def test_sign_in_goes_on_under_the_new_key_alone(world: World) -> None:
    """The secret of an organisation's identity provider, authenticator apps and recovery codes."""
    user = world.mia
    with ring("old"):
        sso = SsoConnection.objects.create(
            organization=world.acme, kind=SsoConnection.Kind.OIDC, name="Okta", group=world.root, created_by=user
        )
        sso.secret_encrypted = crypto.encrypt("sso-secret", bound_to=sso.secret_bound_to)
        sso.save()
        app = TOTP.activate(user, "JBSWY3DPEHPK3PXP").instance
        codes = RecoveryCodes.activate(user).get_unused_codes()
        assert RecoveryCodes(Authenticator.objects.get(user=user, type="recovery_codes")).validate_code(codes[0])
        web = Authenticator.objects.create(user=user, type="webauthn", data={"name": "Key", "credential": {"id": "public"}})
    with ring("new", "old"):
        out = StringIO()
        call_command("rotate_keys", stdout=out)
        assert "secrets of single sign-on: 1 encrypted anew, 0 already current, 0 cannot be opened" in out.getvalue()
        assert "second factors: 2 encrypted anew, 0 already current, 0 cannot be opened" in out.getvalue()
        assert rotating.rotate(rotating.SECOND_FACTORS) == rotating.Rotated(0, 2)
    with ring("new"):
        sso.refresh_from_db()
        app.refresh_from_db()
        web.refresh_from_db()
        assert crypto.decrypt(sso.secret_encrypted, bound_to=sso.secret_bound_to) == "sso-secret"
        assert get_adapter().decrypt(app.data["secret"]) == "JBSWY3DPEHPK3PXP"
        left = RecoveryCodes(Authenticator.objects.get(user=user, type="recovery_codes")).get_unused_codes()
        assert left == codes[1:]
        assert web.data == {"name": "Key", "credential": {"id": "public"}}


@pytest.mark.usefixtures("nothing_stored")
def test_batches_meet_every_row(world: World) -> None:
    with ring("old"):
        for group in (world.root, world.engineering, world.sales, world.platform, world.gateway):
            add(world, group)
    with ring("new", "old"):
        assert rotating.rotate(rotating.PROVIDER_KEYS, batch=2) == rotating.Rotated(5, 0)


def test_what_does_not_open_stays_and_is_told_without_its_text(world: World) -> None:
    with ring("lost"):
        key = add(world)
    with ring("new"):
        err = StringIO()
        with pytest.raises(SystemExit):
            call_command("rotate_keys", stdout=StringIO(), stderr=err)
    assert f"{world.acme.pk}|proxy_providerkey|{key.pk}|key" in err.getvalue()
    assert ProviderKey.objects.get(pk=key.pk).key_encrypted == key.key_encrypted


@pytest.mark.parametrize("first", ["2026", "2026.11"])
def test_ids_that_begin_alike_are_told_apart(first: str) -> None:
    other = {"2026": "2026.11", "2026.11": "2026"}[first]
    with ring(other):
        stored = crypto.encrypt("text", bound_to="row")
    with ring(first, other):
        fresh = crypto.reencrypted(stored, bound_to="row")
        assert fresh is not None
        assert crypto.reencrypted(fresh, bound_to="row") is None
