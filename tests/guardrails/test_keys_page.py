"""The API keys pages through HTTP: who sees what, forms, the secret shown once, disable before delete."""

import re
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from django.core import mail
from django.utils import timezone

from gateway_project.lib.crypto import digest
from guardrails.forms import LimitsForm, NewKeyForm
from guardrails.selectors import PAGE_SIZE, KeyLimits, KeyRules, own_limits, own_rules
from guardrails.services.key_limits import set_key_limits
from orgs.models import ApiKey, AuditEvent
from orgs.services.keys import create_api_key, disable_key, revoke_key
from orgs.services.members import add_member
from orgs.tasks import tell_of_key
from proxy.models import Deployment, Model, Provider
from tests.actors import World, key_row, signed_in
from tests.ledger_rows import call_row, insert_calls

CENT = 10_000_000
HTMX = {"hx-request": "true"}


def url(world: World, path: str = "") -> str:
    return f"/o/{world.acme.slug}/keys/{path}"


def key_url(world: World, path: str = "") -> str:
    return url(world, f"{world.key.pk}/{path}")


def typed(world: World, **fields: Any) -> dict[str, Any]:
    return {"name": "Trial", "group": world.gateway.pk, "budget_window": "month", **fields}


def crowd(world: World, count: int) -> None:
    """More keys of Mia's, written as rows."""
    ApiKey.objects.bulk_create(key_row(world.gateway, world.mia, name=f"key {number}") for number in range(count))


def shown(response: Any) -> str:
    text: str = response.content.decode()
    return text


# --- the list -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "sees"), [("mia", True), ("sam", True), ("lena", True), ("alice", True), ("noah", False)])
def test_a_key_is_listed_for_its_member_and_the_admins_above(world: World, name: str, sees: bool) -> None:
    response = signed_in(world, name).get(url(world))
    assert response.status_code == 200
    assert (world.key.prefix in shown(response)) is sees


def test_another_organisation_does_not_exist(world: World) -> None:
    client = signed_in(world, "charlie")
    for path in ("", "new/", f"{world.key.pk}/"):
        assert client.get(url(world, path)).status_code == 404


def test_the_list_costs_the_same_for_one_key_and_for_many(world: World, django_assert_max_num_queries: Any) -> None:
    crowd(world, 20)
    client = signed_in(world, "alice")
    client.get(url(world))  # the first visit keeps where one was
    with django_assert_max_num_queries(9):
        assert client.get(url(world)).status_code == 200


def test_limits_stand_in_the_row(world: World) -> None:
    set_key_limits(world.key, by=world.actor("mia"), monthly_nano_usd=25 * 10**9, rpm=60)
    page = shown(signed_in(world, "mia").get(url(world)))
    assert "$25.00 per month" in page
    assert "60/min" in page


def test_filters_narrow_the_list(world: World) -> None:
    laptop, _ = create_api_key(world.root, name="Laptop", member=world.alice, by=world.actor("alice"))
    old, _ = create_api_key(world.gateway, name="Old", member=world.mia, by=world.actor("mia"))
    gone, _ = create_api_key(world.gateway, name="Gone", member=world.mia, by=world.actor("mia"))
    disable_key(old, by=world.actor("mia"))
    revoke_key(gone, by=world.actor("mia"))
    client = signed_in(world, "alice")

    def names(query: str) -> set[str]:
        return {row.key.name for row in client.get(url(world) + query).context["rows"]}

    assert names("") == {"Laptop", "Old", "Mia's key"}
    assert names("?status=active") == {"Laptop", "Mia's key"}
    assert names("?status=disabled") == {"Old"}
    assert names("?status=revoked") == {"Gone"}
    assert names("?status=nonsense") == {"Laptop", "Old", "Mia's key"}
    assert names("?member=me") == {"Laptop"}
    assert names(f"?member={world.mia.pk}") == {"Old", "Mia's key"}
    assert names("?member=service") == set()
    assert names(f"?group={world.platform.pk}") == {"Old", "Mia's key"}
    assert names(f"?group={world.sales.pk}") == names(f"?group={world.other.root.pk}") == set()
    assert names(f"?q={laptop.public_id}") == {"Laptop"}
    assert names(f"?q={world.key.prefix}") == {"Mia's key"}
    assert names("?q=mia@nowhere") == set()
    assert names("?q=lap") == {"Laptop"}


def test_an_expired_key_is_found_as_such(world: World) -> None:
    ApiKey.objects.filter(pk=world.key.pk).update(expires_at=timezone.now() - timedelta(days=1))
    client = signed_in(world, "mia")
    assert [row.status for row in client.get(url(world) + "?status=expired").context["rows"]] == ["Expired"]
    assert not client.get(url(world) + "?status=active").context["rows"]


def test_pages_follow_one_another_without_gap_or_repeat(world: World) -> None:
    crowd(world, PAGE_SIZE * 2)
    client = signed_in(world, "mia")
    seen: list[int] = []
    address = ""
    while True:
        context = client.get(url(world) + address).context
        seen += [row.key.pk for row in context["rows"]]
        if not context["older_url"]:
            break
        address = context["older_url"]
    everything = list(ApiKey.objects.filter(member=world.mia).order_by("-pk").values_list("pk", flat=True))
    assert seen == everything
    first = client.get(url(world) + context["newer_url"]).context
    assert [row.key.pk for row in first["rows"]] == everything[PAGE_SIZE : PAGE_SIZE * 2][-PAGE_SIZE:]


def test_keys_are_found_by_application_and_by_what_needs_looking_after(world: World) -> None:
    mia, now = world.actor("mia"), timezone.now()
    create_api_key(world.platform, name="Nightly", application=world.assistant, by=world.actor("sam"))
    create_api_key(world.gateway, name="Ends", member=world.mia, expires_at=now + timedelta(days=13), by=mia)
    create_api_key(world.gateway, name="Lasts", member=world.mia, expires_at=now + timedelta(days=15), by=mia)
    used, _ = create_api_key(world.gateway, name="Used", member=world.mia, by=mia)
    quiet, _ = create_api_key(world.gateway, name="Quiet", member=world.mia, by=mia)
    ApiKey.objects.filter(pk__in=[used.pk, quiet.pk]).update(created_at=now - timedelta(days=60))
    insert_calls(call_row(used, at=now - timedelta(days=29)), call_row(quiet, at=now - timedelta(days=31)))
    client = signed_in(world, "sam")

    def names(query: str) -> set[str]:
        return {row.key.name for row in client.get(url(world) + query).context["rows"]}

    assert names(f"?application={world.assistant.pk}") == names("?member=service") == {"Nightly"}
    assert names("?watch=expiring") == {"Ends"}
    assert names("?watch=unused") == {"Quiet"}
    assert names("?watch=unused&q=used") == set()


def test_the_filter_bar_offers_what_there_is_and_a_member_no_people(world: World) -> None:
    create_api_key(world.platform, name="Nightly", application=world.assistant, by=world.actor("sam"))

    def offered(name: str) -> dict[str, list[str]]:
        choices = signed_in(world, name).get(url(world)).context["filters"].choices
        return {choice.name: [label.strip() for _, label in choice.options[1:]] for choice in choices}

    sam = offered("sam")
    assert sam["group"] == ["platform", "gateway", "core"]
    assert sam["member"] == ["My keys", "Service keys", "Mia"]
    assert sam["application"] == ["Assistant"]
    assert set(offered("mia")) == {"status", "watch"}


@pytest.mark.parametrize(
    "query",
    ["?before=x", "?after=99999999999999999999", "?q=%00", "?before=-1&status=%F0", "?group=x&member=%00&application=9&watch=no"],
)
def test_a_senseless_address_shows_the_list(world: World, query: str) -> None:
    assert signed_in(world, "mia").get(url(world) + query).status_code == 200


def test_without_a_key_the_page_says_what_to_do(world: World) -> None:
    page = shown(signed_in(world, "noah").get(url(world)))
    assert "No API key yet" in page
    assert "/v1/chat/completions" in page


# --- a new key ------------------------------------------------------------------------------------


@pytest.mark.usefixtures("empty_catalogue")
def test_the_secret_is_shown_once_with_calls_that_work(world: World, settings: Any) -> None:
    provider = Provider.objects.create(name="p", kind="sandbox")
    model = Model.objects.create(name="sandbox-standard")
    Deployment.objects.create(model=model, provider=provider, upstream_model="x")
    client = signed_in(world, "mia")
    wanted = {"budget": "0.01", "rpm": "30", "models": "sandbox-*", "addresses": "10.0.0.1/8"}
    response = client.post(url(world, "new/"), typed(world, **wanted), headers=HTMX)
    key = ApiKey.objects.get(organization=world.acme, name="Trial")
    secret = response.context["secret"]
    assert response.status_code == 200
    assert digest(secret) == bytes(key.digest)
    page = shown(response)
    assert f"{settings.PUBLIC_URL}/v1/chat/completions" in page
    assert "&quot;sandbox-standard&quot;" in page or '"sandbox-standard"' in page
    assert "data-test-call" in page
    assert own_limits(key) == KeyLimits(monthly_nano_usd=CENT, rpm=30)
    assert own_rules(key) == KeyRules(("sandbox-*",), (), ("10.0.0.0/8",))
    assert "no-store" in response["Cache-Control"]
    assert secret not in shown(client.get(key_url(world))) + shown(client.get(url(world)))
    assert secret not in str(dict(client.session))


@pytest.mark.usefixtures("empty_catalogue")
def test_whoever_makes_a_key_is_told_at_once_what_is_odd_about_its_limits(world: World) -> None:
    provider, model = Provider.objects.create(name="p", kind="sandbox"), Model.objects.create(name="sandbox-standard")
    Deployment.objects.create(model=model, provider=provider, upstream_model="x")
    client = signed_in(world, "mia")
    page = shown(client.post(url(world, "new/"), typed(world, models="sandbx-standard"), headers=HTMX))
    assert "“sandbx-standard” names no model that is offered now." in page
    key = ApiKey.objects.get(organization=world.acme, name="Trial")
    assert f"/keys/{key.pk}/oddities/" in shown(client.get(url(world, f"{key.pk}/")))
    assert "names no model" not in shown(
        client.post(url(world, "new/"), typed(world, name="Right", models="sandbox-*"), headers=HTMX)
    )


def test_without_javascript_it_is_a_page_of_its_own(world: World) -> None:
    client = signed_in(world, "mia")
    assert "<html" in shown(client.get(url(world, "new/")))
    assert "<html" not in shown(client.get(url(world, "new/"), headers=HTMX))
    assert "<html" in shown(client.post(url(world, "new/"), typed(world)))


def test_application_environment_and_features_are_bound(world: World) -> None:
    fields = typed(world, application=world.assistant.pk, environment="production", features=["chat"], expires_on="2099-12-31")
    signed_in(world, "mia").post(url(world, "new/"), fields)
    key = ApiKey.objects.get(organization=world.acme, name="Trial")
    assert (key.application, key.environment, key.features, key.member) == (world.assistant, "production", ["chat"], world.mia)
    assert key.expires_at is not None
    assert f"{key.expires_at:%Y-%m-%d %H:%M}" == "2100-01-01 00:00"


def test_an_admin_makes_a_service_key(world: World) -> None:
    fields = typed(world, group=world.platform.pk, application=world.assistant.pk, owner="service")
    signed_in(world, "sam").post(url(world, "new/"), fields)
    assert ApiKey.objects.get(organization=world.acme, name="Trial").member is None


def test_an_admin_makes_a_key_for_a_member_who_is_told_and_can_rotate_it(
    world: World, django_capture_on_commit_callbacks: Any
) -> None:
    client = signed_in(world, "sam")
    chosen: dict[str, str] = {"owner": "member", "group": str(world.gateway.pk)}
    assert world.mia.email in shown(client.get(url(world, "new/attribution/"), chosen))
    assert world.mia.email not in shown(client.get(url(world, "new/attribution/"), {**chosen, "owner": "me"}))
    with django_capture_on_commit_callbacks() as committed:
        page = shown(client.post(url(world, "new/"), typed(world, owner="member", email=world.mia.email.upper())))
    key = ApiKey.objects.get(organization=world.acme, name="Trial")
    [secret] = set(re.findall(r"gh_sk_\w{12}_[\w-]{43}", page))
    assert (key.member, key.created_by, bytes(key.digest)) == (world.mia, world.sam, digest(secret))
    assert "in the name of <strong>Mia</strong>" in page
    assert "data-test-call" not in page
    assert [one.args for one in committed if isinstance(one, partial)] == [("orgs.tasks.tell_of_key", key.pk)]
    assert tell_of_key(key.pk)
    [told] = mail.outbox
    assert told.to == [world.mia.email]
    assert told.subject == "Sam made an API key for you"
    assert url(world, f"{key.pk}/") in told.body
    assert key.public_id not in str(told.message())
    event = AuditEvent.objects.get(organization=world.acme, action="key.created", object_id=str(key.pk))
    assert (event.actor, event.after["member"]) == (world.sam, world.mia.pk)
    theirs = signed_in(world, "mia")
    assert "by Sam" in shown(theirs.get(url(world, f"{key.pk}/")))
    assert theirs.post(url(world, f"{key.pk}/rotate/"), {"grace": "none"}).status_code == 200


@pytest.mark.parametrize(
    ("by", "where", "whose", "says"),
    [
        ("sam", "gateway", "noah", "No other active member of gateway has this address."),
        ("sam", "platform", "sam", "No other active member of platform has this address."),
        ("sam", "gateway", "", "This field is required."),
        ("noah", "field", "mia", ""),
    ],
)
def test_a_key_for_somebody_who_is_not_of_the_group_is_not_made(world: World, by: str, where: str, whose: str, says: str) -> None:
    """Whoever manages no keys is not asked for whom: the key is its own."""
    fields = typed(world, owner="member", group=getattr(world, where).pk, email=getattr(world, whose).email if whose else "")
    response = signed_in(world, by).post(url(world, "new/"), fields)
    assert response.status_code == (422 if says else 200)
    assert says in shown(response)
    made = ApiKey.objects.filter(organization=world.acme, name="Trial")
    assert [key.member for key in made] == ([] if says else [getattr(world, by)])


def test_who_is_beside_one_as_a_member_is_told_to_nobody_who_manages_keys_elsewhere(world: World) -> None:
    add_member(world.sam, group=world.field, by=world.actor("alice"))
    client, chosen = signed_in(world, "sam"), {"owner": "member", "group": str(world.field.pk)}
    assert world.noah.email not in shown(client.get(url(world, "new/attribution/"), chosen))
    for email in (world.noah.email, world.mia.email):
        page = shown(client.post(url(world, "new/"), typed(world, **{**chosen, "email": email})))
        assert "You do not manage the keys of field." in page


def test_a_member_is_not_offered_a_service_key_and_gets_none(world: World) -> None:
    client = signed_in(world, "mia")
    assert "service key" not in shown(client.get(url(world, "new/")))
    client.post(url(world, "new/"), typed(world, owner="service", application=world.assistant.pk))
    assert ApiKey.objects.get(organization=world.acme, name="Trial").member == world.mia


@pytest.mark.parametrize(
    ("wrong", "field", "says"),
    [
        ({"name": "  "}, "name", "required"),
        ({"name": "x" * 121}, "name", "120"),
        ({"group": "999999999"}, "group", "valid choice"),
        ({"application": "7"}, "application", "valid choice"),
        ({"environment": "moon"}, "environment", "valid choice"),
        ({"features": ["moon"]}, "features", "valid choice"),
        ({"expires_on": "2001-01-01"}, "expires_on", "over"),
        ({"expires_on": "soon"}, "expires_on", "valid date"),
        ({"budget": "lots"}, "budget", "amount in US dollars"),
        ({"budget": "1,5"}, "budget", "after a point"),
        ({"budget": "-3"}, "budget", "more than zero"),
        ({"budget": "0"}, "budget", "more than zero"),
        ({"budget": "1e400"}, "budget", "amount in US dollars"),
        ({"budget": "0.0000000001"}, "budget", "nine decimals"),
        ({"budget": "9999999999"}, "budget", "At most"),
        ({"budget_window": "decade"}, "budget_window", "valid choice"),
        ({"rpm": "0"}, "rpm", "greater than or equal to 1"),
        ({"rpm": "2.5"}, "rpm", "whole number"),
        ({"models": "a b!"}, "models", "b!"),
        ({"addresses": "300.1.1.1"}, "addresses", "300.1.1.1"),
    ],
)
def test_bad_input_is_named_and_kept(world: World, wrong: dict[str, Any], field: str, says: str) -> None:
    response = signed_in(world, "mia").post(url(world, "new/"), typed(world, **wrong), headers=HTMX)
    assert response.status_code == 422
    form = response.context["form"]
    assert says in " ".join(form.errors[field])
    for name, value in wrong.items():
        assert form[name].value() == value
    if "name" not in wrong:
        assert 'value="Trial"' in shown(response)
    assert not ApiKey.objects.filter(organization=world.acme, name="Trial").exists()


def test_a_refusal_of_the_service_stands_beside_its_field(world: World) -> None:
    """A service key is at home where its application is: the form lets it pass, the service does not."""
    fields = typed(world, group=world.gateway.pk, application=world.assistant.pk, owner="service")
    response = signed_in(world, "sam").post(url(world, "new/"), fields)
    assert response.status_code == 422
    assert "at home in its group" in str(response.context["form"].errors["application"])


def test_a_service_key_asks_for_its_application_and_no_other_does(world: World) -> None:
    client, label = signed_in(world, "sam"), 'for="id_application">Application'
    optional = f'{label} <span class="text-secondary fw-normal">optional</span>'
    for address in (url(world, "new/"), url(world, "new/attribution/")):
        assert optional in shown(client.get(f"{address}?group={world.platform.pk}&owner=me"))
    part = shown(client.get(url(world, f"new/attribution/?group={world.platform.pk}&owner=service")))
    assert (label in part, optional in part, "Choose one</option>" in part) == (True, False, True)
    response = client.post(url(world, "new/"), typed(world, group=world.platform.pk, owner="service"))
    assert response.status_code == 422
    assert response.context["form"].errors == {"application": ["Choose the application whose key it is."]}
    assert optional not in shown(response)


def test_a_group_beside_ones_own_is_no_choice(world: World) -> None:
    response = signed_in(world, "mia").post(url(world, "new/"), typed(world, group=world.field.pk))
    assert response.status_code == 422
    assert not ApiKey.objects.filter(organization=world.acme, name="Trial").exists()


def test_choices_follow_what_is_chosen(world: World) -> None:
    address = url(world, "new/attribution/")
    client = signed_in(world, "alice")
    elsewhere = shown(client.get(address, {"group": world.field.pk}))
    here = shown(client.get(address, {"group": world.gateway.pk, "application": world.assistant.pk}))
    assert "Assistant" not in elsewhere
    assert "production" in here
    assert "search" in here
    assert "This field is required" not in here
    assert client.get(address, {"group": "x", "application": "9" * 30}).status_code == 200


def test_what_is_ticked_stays_while_choices_follow(world: World) -> None:
    chosen: dict[str, Any] = {
        "group": world.gateway.pk,
        "application": world.assistant.pk,
        "environment": "staging",
        "features": ["chat"],
    }
    page = shown(signed_in(world, "mia").get(url(world, "new/attribution/"), chosen))
    assert page.count("checked") == 1
    assert '<option value="staging" selected>' in page


@pytest.mark.parametrize(
    ("text", "nano"),
    [
        ("", None),
        ("25", 25 * 10**9),
        (" $1,000.50 ", 1_000_500_000_000),
        ("0.01", CENT),
        (".5", 5 * 10**8),
        ("1,234,567", 1_234_567 * 10**9),
    ],
)
def test_dollars_as_people_type_them(text: str, nano: int | None) -> None:
    form = LimitsForm({"daily_nano_usd": text})
    assert form.is_valid(), form.errors
    assert form.limits.daily_nano_usd == nano


def test_what_a_form_shows_it_reads_back(world: World) -> None:
    limits = KeyLimits(1, 123_456_789_012_345_678, 4_000_000_000, 60)
    form = LimitsForm.showing(limits)
    again = LimitsForm({field.name: field.value() for field in form})
    assert again.is_valid()
    assert again.limits == limits


def test_the_nearest_home_is_chosen_first(world: World) -> None:
    assert NewKeyForm(actor=world.actor("mia")).initial["group"] == world.gateway
    assert NewKeyForm(actor=world.actor("alice")).initial["group"] == world.root


# --- one key --------------------------------------------------------------------------------------


def test_the_keys_page_shows_facts_and_loads_the_rest(world: World, django_assert_max_num_queries: Any) -> None:
    client = signed_in(world, "mia")
    with django_assert_max_num_queries(12):
        page = shown(client.get(key_url(world)))
    assert world.key.prefix in page
    assert f"/usage/keys/{world.key.pk}/limits/" in page
    assert f"/usage/keys/{world.key.pk}/calls/" in page


def test_limits_are_set_on_the_page(world: World) -> None:
    client = signed_in(world, "mia")
    response = client.post(key_url(world, "limits/"), {"monthly_nano_usd": "0.01", "rpm": "5"})
    assert response.status_code == 302
    assert own_limits(world.key) == KeyLimits(monthly_nano_usd=CENT, rpm=5)
    assert 'value="0.01"' in shown(client.get(key_url(world, "limits/")))


def test_a_bad_limit_is_named_and_kept(world: World) -> None:
    response = signed_in(world, "mia").post(key_url(world, "limits/"), {"monthly_nano_usd": "ten", "rpm": "5"})
    assert response.status_code == 422
    assert 'value="ten"' in shown(response)
    assert own_limits(world.key) == KeyLimits()


def test_a_member_cannot_raise_what_an_admin_set(world: World) -> None:
    set_key_limits(world.key, by=world.actor("sam"), monthly_nano_usd=CENT)
    response = signed_in(world, "mia").post(key_url(world, "limits/"), {"monthly_nano_usd": "10"})
    assert response.status_code == 422
    assert "lower it" in shown(response)
    assert own_limits(world.key).monthly_nano_usd == CENT


def test_disable_then_delete(world: World) -> None:
    client = signed_in(world, "mia")
    refused = client.post(key_url(world, "delete/"), {"confirm": "Mia's key"})
    assert refused.status_code == 422
    assert "Disable it first" in shown(refused)
    assert client.post(key_url(world, "disable/")).status_code == 302
    wrong = client.post(key_url(world, "delete/"), {"confirm": "mia"})
    assert wrong.status_code == 422
    assert ApiKey.objects.get(pk=world.key.pk).status == "disabled"
    gone = client.post(key_url(world, "delete/"), {"confirm": "Mia's key"}, headers=HTMX)
    assert gone["HX-Redirect"] == url(world)
    assert ApiKey.objects.get(pk=world.key.pk).status == "revoked"
    page = shown(client.get(key_url(world, "limits/")))
    assert "Save limits" not in page
    assert '<fieldset class="card-body pb-0" disabled>' in page


def test_what_an_admin_disabled_the_member_cannot_enable(world: World) -> None:
    disable_key(world.key, by=world.actor("sam"))
    assert signed_in(world, "mia").post(key_url(world, "enable/")).status_code == 403
    assert signed_in(world, "sam").post(key_url(world, "enable/")).status_code == 302
    assert ApiKey.objects.get(pk=world.key.pk).status == "active"


def test_a_deleted_key_refuses_every_change(world: World) -> None:
    revoke_key(world.key, by=world.actor("mia"))
    client = signed_in(world, "mia")
    assert "deleted" in shown(client.post(key_url(world, "disable/"), follow=True))
    assert client.post(key_url(world, "limits/"), {"rpm": "5"}).status_code == 422
    assert client.post(key_url(world, "delete/"), {"confirm": "Mia's key"}).status_code == 422


@pytest.mark.parametrize("path", ["rotate/end/", "disable/", "enable/"])
def test_changes_are_posted(world: World, path: str) -> None:
    assert signed_in(world, "mia").get(key_url(world, path)).status_code == 405


@pytest.mark.parametrize("path", ["limits/", "disable/", "enable/", "delete/", "edit/", "rotate/", "rotate/end/"])
@pytest.mark.parametrize("name", ["noah", "charlie"])
def test_others_keys_do_not_exist(world: World, name: str, path: str) -> None:
    assert signed_in(world, name).post(key_url(world, path)).status_code == 404
    assert ApiKey.objects.get(pk=world.key.pk).status == "active"


def test_every_limit_and_list_of_a_key_is_set_on_its_page(world: World) -> None:
    fields = {
        "weekly_nano_usd": "7",
        "tpm": "1000",
        "rpd": "200",
        "parallel": "3",
        "max_tokens": "4096",
        "models": "gpt-5*, claude-5",
        "blocked_models": "gpt-5-pro",
        "addresses": "10.0.0.1/8",
    }
    client = signed_in(world, "mia")
    assert client.post(key_url(world, "limits/"), fields).status_code == 302
    limits = KeyLimits(weekly_nano_usd=7 * 10**9, tpm=1000, rpd=200, parallel=3, max_tokens=4096)
    assert own_limits(world.key) == limits
    assert own_rules(world.key) == KeyRules(("gpt-5*", "claude-5"), ("gpt-5-pro",), ("10.0.0.0/8",))
    form = client.get(key_url(world, "limits/")).context["form"]
    again = LimitsForm({field.name: field.value() for field in form if field.value() is not None})
    assert again.is_valid()
    assert again.limits == limits
    assert again.rules["models"] == ["gpt-5*", "claude-5"]


@pytest.mark.parametrize(("field", "text"), [("models", "a b!"), ("addresses", "300.1.1.1"), ("parallel", "0"), ("tpm", "x")])
def test_a_senseless_limit_or_list_is_named_beside_its_field(world: World, field: str, text: str) -> None:
    response = signed_in(world, "mia").post(key_url(world, "limits/"), {field: text})
    assert response.status_code == 422
    assert field in response.context["form"].errors
    assert own_rules(world.key) == KeyRules()


def test_a_member_does_not_widen_an_admins_list_on_the_page(world: World) -> None:
    set_key_limits(world.key, by=world.actor("sam"), rules={"models": ["gpt-*"]})
    response = signed_in(world, "mia").post(key_url(world, "limits/"), {"models": "*"})
    assert response.status_code == 422
    assert "narrow the list" in " ".join(response.context["form"].errors["models"])
