"""Requests through HTTP: asking for a model, who may decide, what an approval reaches, and what is left in the audit trail."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.messages import get_messages

from billing.models import PriceVersion
from guardrails.models import Request
from guardrails.requests import APPROVED, DECLINED, OPEN, WITHDRAWN, approve_model, waiting_for
from orgs.models import AuditEvent, Group
from orgs.services.members import add_member
from proxy.models import Deployment, Model, Provider
from tests.actors import World, signed_in
from tests.guardrails.new_models import MODEL, offer_new_model

HTMX = {"hx-request": "true"}


@pytest.fixture
def asking(empty_catalogue: None, world: World) -> World:
    return offer_new_model(world)


def url(world: World, path: str = "") -> str:
    return f"/o/{world.acme.slug}/guardrails/requests/{path}"


def shown(world: World, name: str) -> str:
    text: str = signed_in(world, name).get(url(world)).content.decode()
    return text


def ask(world: World, name: str = "mia", *, group: str = "gateway", model: str = MODEL, reason: str = "For the search") -> Any:
    return signed_in(world, name).post(url(world, "new/"), {"model": model, "group": getattr(world, group).pk, "reason": reason})


def asked(world: World) -> Request:
    found: Request = Request.objects.get(organization=world.acme, status=OPEN)
    return found


def decide(world: World, name: str, what: str, request: Request, **typed: Any) -> Any:
    return signed_in(world, name).post(url(world, f"{request.pk}/{what}/"), typed)


# --- asking --------------------------------------------------------------------------------------
def test_a_model_by_its_providers_own_name_can_be_asked_for_though_it_is_not_listed(asking: World) -> None:
    Provider.objects.create(name="account-of-requests", kind="openai")
    PriceVersion.objects.create(sku="openai/priced", valid_from=datetime.now(UTC), source="test", rates={"input": 1, "output": 1})
    name = "account-of-requests/priced"
    assert name not in shown(asking, "mia")
    assert name in signed_in(asking, "mia").get(url(asking, "new/"), {"model": name}).content.decode()
    assert ask(asking, model=name).status_code == 302
    assert asked(asking).model == name
    assert ask(asking, model="account-of-requests/unpriced").status_code == 422


@pytest.mark.parametrize("kind", Model.Kind.values)
def test_a_model_of_any_kind_can_be_asked_for_and_approved(asking: World, kind: str) -> None:
    Model.objects.filter(name=MODEL).update(kind=kind)
    assert MODEL in shown(asking, "mia")
    page = signed_in(asking, "mia").get(url(asking, "new/")).content.decode()
    assert f'<option value="{MODEL}">' in page
    assert ask(asking).status_code == 302
    assert decide(asking, "sam", "approve", asked(asking), group=asking.gateway.pk).status_code == 302
    assert approve_model(MODEL, group=asking.platform, by=asking.actor("lena")).status == APPROVED


def test_a_member_asks_and_the_admins_above_see_it(asking: World) -> None:
    assert ask(asking).status_code == 302
    request = asked(asking)
    assert (request.model, request.group, request.requested_by, request.reason) == (
        MODEL, asking.gateway, asking.mia, "For the search",
    )  # fmt: skip
    for name in ("sam", "lena", "alice"):
        assert "For the search" in shown(asking, name), name
        assert waiting_for(asking.actor(name)).count() == 1
    assert "For the search" in shown(asking, "mia")
    assert "For the search" not in shown(asking, "noah")
    assert not waiting_for(asking.actor("mia")).exists()
    assert not waiting_for(asking.actor("noah")).exists()


def test_the_menu_counts_what_waits_for_whoever_can_decide(asking: World) -> None:
    ask(asking)
    badge = url(asking, "waiting/")
    assert f'hx-get="{badge}"' in shown(asking, "lena")
    assert f'hx-get="{badge}"' not in shown(asking, "mia")
    assert 'class="gh-nav-badge">1<' in signed_in(asking, "lena").get(badge).content.decode()
    decide(asking, "sam", "decline", asked(asking), answer="No")
    assert "gh-nav-badge" not in signed_in(asking, "lena").get(badge).content.decode()


def test_the_same_is_not_asked_twice_nor_what_is_approved_above(asking: World) -> None:
    ask(asking)
    again = ask(asking)
    assert (again.status_code, "asked for already" in again.content.decode()) == (422, True)
    decide(asking, "alice", "approve", asked(asking), group=asking.root.pk)
    after = ask(asking)
    assert (after.status_code, "is approved for" in after.content.decode()) == (422, True)


@pytest.mark.parametrize(("model", "group"), [("gpt-old", "gateway"), ("", "gateway"), (MODEL, "sales"), (MODEL, "engineering")])
def test_only_a_model_that_waits_for_a_group_of_ones_own(asking: World, model: str, group: str) -> None:
    assert ask(asking, model=model, group=group).status_code == 422
    assert not Request.objects.filter(organization=asking.acme).exists()


def test_an_old_model_and_one_that_nobody_serves_need_no_approval(asking: World) -> None:
    old = Model.objects.create(name="old-model", created_at=datetime.now(UTC) - timedelta(days=30))
    Deployment.objects.create(model=old, provider=Provider.objects.get(name="provider-of-requests"), upstream_model="o")
    Model.objects.create(name="unserved-model", created_at=datetime.now(UTC))
    page = shown(asking, "mia")
    assert MODEL in page
    assert "old-model" not in page
    assert "unserved-model" not in page


def test_the_dialog_takes_the_model_from_the_address(asking: World) -> None:
    page = signed_in(asking, "mia").get(url(asking, "new/"), {"model": MODEL}, headers=HTMX).content.decode()
    assert f'<option value="{MODEL}" selected>' in page


@pytest.mark.parametrize("name", ["gpt-old", "BRAND-NEW-MODEL", "x" * 300, "<i>&quot;"])
def test_a_model_that_needs_no_approval_is_named_and_no_other_is_chosen_for_it(asking: World, name: str) -> None:
    response = signed_in(asking, "mia").get(url(asking, "new/"), {"model": name}, headers=HTMX)
    assert response.context["why_not"] == f"{name[:200]} needs no approval here."
    page = response.content.decode()
    assert ("needs no approval here." in page, "<i>" in page) == (True, False)
    assert f'<option value="{MODEL}">' in page
    assert f'<option value="{MODEL}" selected>' not in page
    assert page.index('<option value=""') < page.index(f'<option value="{MODEL}">')


def test_a_model_that_waits_is_chosen_without_a_word(asking: World) -> None:
    for typed in ({"model": MODEL}, {}):
        assert signed_in(asking, "mia").get(url(asking, "new/"), typed).context["why_not"] == ""


def test_where_nothing_needs_an_approval_the_dialog_says_so_of_the_model(world: World) -> None:
    page = signed_in(world, "mia").get(url(world, "new/"), {"model": "gpt-old"}).content.decode()
    assert "gpt-old needs no approval here." in page
    assert "<select" not in page


@pytest.mark.usefixtures("empty_catalogue")
@pytest.mark.parametrize(("name", "button"), [("alice", "Approve"), ("lena", "Approve"), ("mia", "Ask for")])
def test_what_is_approved_for_the_whole_organisation_is_shown_as_approved(asking: World, name: str, button: str) -> None:
    approve_model(MODEL, group=asking.core, by=asking.actor("alice"))
    assert f'aria-label="{button} {MODEL}"' in shown(asking, name)

    approve_model(MODEL, group=asking.root, by=asking.actor("alice"))
    response = signed_in(asking, name).get(url(asking))
    (row,) = response.context["models"]
    assert (row.everywhere, row.approved_for[0]) == (True, asking.root.name)
    assert f'aria-label="{button} {MODEL}"' not in response.content.decode()
    assert 'data-tone="ok">Approved</span>' in response.content.decode()
    assert not response.context["may_ask"]

    dialog = signed_in(asking, name).get(url(asking, "new/"), {"model": MODEL}).content.decode()
    assert f"{MODEL} is approved for the whole organisation." in dialog
    assert "<select" not in dialog


def test_a_member_is_not_offered_to_ask_for_what_its_groups_may_call(asking: World) -> None:
    ask(asking)
    assert f"Ask for {MODEL}" in shown(asking, "mia")
    decide(asking, "sam", "approve", asked(asking), group=asking.gateway.pk)
    page = signed_in(asking, "mia").get(url(asking))
    assert f"Ask for {MODEL}" not in page.content.decode()
    assert (page.context["models"][0].for_own, page.context["may_ask"]) == (True, False)
    assert f"Ask for {MODEL}" in shown(asking, "noah"), "another group may not call it"
    add_member(asking.mia, group=asking.sales, by=asking.actor("alice"))
    assert f"Ask for {MODEL}" in shown(asking, "mia"), "for the other of her groups"
    assert f"Approve {MODEL}" in shown(asking, "sam"), "for more groups"


def test_whoever_asked_may_withdraw_until_it_is_decided(asking: World) -> None:
    ask(asking)
    request = asked(asking)
    assert decide(asking, "sam", "withdraw", request).status_code == 403
    decide(asking, "mia", "withdraw", request)
    request.refresh_from_db()
    assert request.status == WITHDRAWN
    ask(asking)
    decide(asking, "sam", "approve", asked(asking), group=asking.gateway.pk)
    decide(asking, "mia", "withdraw", Request.objects.get(status=APPROVED, organization=asking.acme))
    assert Request.objects.filter(status=APPROVED, organization=asking.acme).exists()


# --- deciding ------------------------------------------------------------------------------------
@pytest.mark.parametrize(("name", "status"), [("charlie", 404), ("noah", 404), ("mia", 403), ("sam", 302), ("alice", 302)])
def test_who_manages_the_guardrails_there_decides(asking: World, name: str, status: int) -> None:
    ask(asking)
    response = decide(asking, name, "approve", asked(asking), group=asking.gateway.pk)
    assert response.status_code in ({403, 404} if name == "noah" else {status})
    assert Request.objects.filter(organization=asking.acme, status=APPROVED).exists() is (status == 302)


def test_an_admin_does_not_approve_for_its_own_node(asking: World) -> None:
    ask(asking)
    assert decide(asking, "sam", "approve", asked(asking), group=asking.platform.pk).status_code == 422
    assert asked(asking).group == asking.gateway


def test_an_approval_may_be_wider_than_what_was_asked_and_takes_in_what_waits_below(asking: World) -> None:
    ask(asking)
    ask(asking, "sam", group="platform")
    request = Request.objects.get(organization=asking.acme, group=asking.gateway)

    decide(asking, "lena", "approve", request, group=asking.platform.pk, answer="Use it")

    found = Request.objects.filter(organization=asking.acme).order_by("group__level")
    assert [(one.group, one.status, one.answer) for one in found] == [
        (asking.platform, APPROVED, "Use it"),
        (asking.gateway, APPROVED, "Use it"),
    ]
    assert "Use it" in shown(asking, "mia")


def test_a_wider_approval_moves_the_request_up(asking: World) -> None:
    ask(asking)
    decide(asking, "alice", "approve", asked(asking), group=asking.root.pk)
    (found,) = Request.objects.filter(organization=asking.acme)
    assert (found.group, found.status, found.decided_by) == (asking.root, APPROVED, asking.alice)


def test_declining_wants_a_word_and_the_requester_reads_it(asking: World) -> None:
    ask(asking)
    request = asked(asking)
    assert decide(asking, "sam", "decline", request, answer=" ").status_code == 422
    assert decide(asking, "sam", "decline", request, answer="Use the small one").status_code == 302
    request.refresh_from_db()
    assert (request.status, request.decided_by) == (DECLINED, asking.sam)
    assert "Use the small one" in shown(asking, "mia")
    assert ask(asking).status_code == 302


def test_the_second_to_decide_is_told_that_it_is_decided(asking: World) -> None:
    ask(asking)
    request = asked(asking)
    decide(asking, "sam", "approve", request, group=asking.gateway.pk)
    late = decide(asking, "alice", "decline", request, answer="No")
    assert (late.status_code, "approved by now" in late.content.decode()) == (422, True)


def test_an_admin_approves_without_being_asked(asking: World) -> None:
    response = signed_in(asking, "lena").post(url(asking, "approve/"), {"model": MODEL, "group": asking.platform.pk})
    assert response.status_code == 302
    (found,) = Request.objects.filter(organization=asking.acme)
    assert (found.status, found.group, found.requested_by) == (APPROVED, asking.platform, asking.lena)
    refused = signed_in(asking, "lena").post(url(asking, "approve/"), {"model": MODEL, "group": asking.root.pk})
    assert refused.status_code == 422


def test_ending_an_approval_ends_those_below_it(asking: World) -> None:
    ask(asking)
    decide(asking, "sam", "approve", asked(asking), group=asking.gateway.pk)
    signed_in(asking, "lena").post(url(asking, "approve/"), {"model": MODEL, "group": asking.platform.pk})
    wide = Request.objects.get(organization=asking.acme, group=asking.platform)

    assert decide(asking, "sam", "revoke", wide).status_code in (403, 404)
    ended = decide(asking, "lena", "revoke", wide, answer="Too dear")
    assert [str(words) for words in get_messages(ended.wsgi_request)] == [
        f"{MODEL} is no longer approved for platform, nor for 1 group below it."
    ]
    assert set(Request.objects.filter(organization=asking.acme).values_list("status", "answer")) == {(DECLINED, "Too dear")}


def test_every_step_is_in_the_audit_trail(asking: World) -> None:
    ask(asking)
    request = asked(asking)
    decide(asking, "sam", "approve", request, group=asking.gateway.pk)
    decide(asking, "sam", "revoke", request)
    events = AuditEvent.objects.filter(organization=asking.acme, object_type="request").order_by("pk")
    assert [(event.action, event.actor, event.after["status"]) for event in events] == [
        ("request.made", asking.mia, "open"),
        ("request.approved", asking.sam, "approved"),
        ("request.revoked", asking.sam, "declined"),
    ]


# --- the page ------------------------------------------------------------------------------------
def test_the_page_costs_the_same_for_many_requests(asking: World, django_assert_max_num_queries: Any) -> None:
    for number in range(30):
        Request.objects.create(
            organization=asking.acme, kind="model", group=asking.gateway, model=f"m{number}", requested_by=asking.mia
        )
    for name in ("alice", "mia"):
        client = signed_in(asking, name)
        client.get(url(asking))
        with django_assert_max_num_queries(9):
            assert client.get(url(asking)).status_code == 200


def test_where_nothing_needs_an_approval_the_page_says_how_to_ask_for_it(world: World) -> None:
    assert "Nothing needs an approval" in shown(world, "mia")
    assert "/settings/" in shown(world, "alice")


@pytest.mark.parametrize("path", ["approve", "decline", "revoke", "withdraw"])
def test_a_request_of_elsewhere_is_not_found(asking: World, path: str) -> None:
    ask(asking)
    other = signed_in(asking, "charlie")
    assert other.post(f"/o/{asking.other.slug}/guardrails/requests/{asked(asking).pk}/{path}/").status_code == 404
    assert Group.objects.filter(pk=asking.gateway.pk).exists()


# --- whose approvals are shown --------------------------------------------------------------------


def approved_for(world: World, name: str) -> list[str]:
    models = signed_in(world, name).get(url(world)).context["models"]
    return next(row.approved_for for row in models if row.name == MODEL)


def test_approvals_are_shown_on_ones_own_paths_and_where_one_manages(asking: World) -> None:
    for name in ("core", "platform", "field"):
        approve_model(MODEL, group=getattr(asking, name), by=asking.actor("alice"))
    assert approved_for(asking, "alice") == ["platform", "field", "core"]
    assert approved_for(asking, "lena") == ["platform", "core"]
    assert approved_for(asking, "sam") == ["platform", "core"]
    assert approved_for(asking, "mia") == ["platform"]
    assert approved_for(asking, "noah") == ["field"]
    assert "platform" not in shown(asking, "noah")
