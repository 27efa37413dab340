"""A POST of the API that is sent again: what was changed is changed once, and answered as it was."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from django.db import transaction
from django.test import Client
from django.utils import timezone

from gateway_project.api_document import document
from gateway_project.lib import database
from orgs.models import AnsweredRequest, ApiKey, AuditEvent, Group, Invitation, Organization
from orgs.services.freezing import freeze_organization, freeze_person
from orgs.services.groups import archive_group, restore_group
from orgs.tasks import forget_answers
from tests.actors import World, operator
from tests.apis import Api, api, code


def sent(ask: Api, path: str, body: Any, *, key: str | None, method: str = "post") -> Any:
    headers = {} if key is None else {"Idempotency-Key": key}
    given = {"data": json.dumps(body), "content_type": "application/json"}
    return getattr(ask.client, method)(ask.base + path, headers=headers, **given)


def new_group(world: World, name: str = "New") -> dict[str, Any]:
    return {"parent_id": world.engineering.pk, "name": name}


def count_of(name: str = "New") -> int:
    found: int = Group.objects.filter(name=name).count()
    return found


def test_the_same_request_with_the_same_key_is_done_once_and_answered_as_it_was(world: World) -> None:
    ask = api(world, "alice")
    first = sent(ask, "/groups", new_group(world), key="k 1")
    events = AuditEvent.objects.count()
    Group.objects.filter(name="New").update(kind="changed since")
    again = sent(ask, "/groups", dict(reversed(new_group(world).items())), key="k 1")
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.content == first.content
    assert (again.headers["X-Gatehouse-Replayed"], "X-Gatehouse-Replayed" in first.headers) == ("true", False)
    assert (count_of(), AuditEvent.objects.count()) == (1, events)
    # Without a key, or with another, it is another request.
    others = [sent(ask, "/groups", new_group(world, f"New by {key}"), key=key) for key in (None, "k 2")]
    assert [other.status_code for other in others] == [201, 201]
    assert (count_of(), count_of("New by None"), count_of("New by k 2")) == (1, 1, 1)


@pytest.mark.parametrize("other", ["body", "path"])
def test_another_request_with_the_same_key_is_refused_and_changes_nothing(world: World, other: str) -> None:
    ask = api(world, "alice")
    assert sent(ask, f"/groups/{world.core.pk}/restore", {}, key="k").status_code == 200
    path, body = (f"/groups/{world.core.pk}/archive", {}) if other == "path" else (f"/groups/{world.core.pk}/restore", {"a": 1})
    refused = sent(ask, path, body, key="k")
    assert (refused.status_code, code(refused.json())) == (409, "idempotency_conflict")
    world.core.refresh_from_db()
    assert world.core.archived_at is None


def test_a_refused_request_leaves_its_key_free(world: World) -> None:
    ask, body = api(world, "alice"), {"parent_id": world.gateway.pk, "name": "New"}
    archive_group(world.gateway, by=world.actor("alice"))
    refused = sent(ask, "/groups", body, key="k")
    assert (refused.status_code, code(refused.json()), AnsweredRequest.objects.count()) == (422, "refused", 0)
    restore_group(world.gateway, by=world.actor("alice"))
    made = sent(ask, "/groups", body, key="k")
    assert (made.status_code, count_of(), "X-Gatehouse-Replayed" in made.headers) == (201, 1, False)


def test_a_denial_is_in_the_trail_although_the_request_was_undone(world: World) -> None:
    refused = sent(api(world, "mia"), "/groups", new_group(world), key="k")
    assert refused.status_code == 403
    assert AuditEvent.objects.filter(action="access.denied", actor=world.mia).count() == 1


@pytest.mark.parametrize("rotated", [False, True], ids=["made", "rotated"])
def test_the_text_of_a_key_is_given_once_and_kept_nowhere(world: World, rotated: bool) -> None:
    ask = api(world, "mia")
    path = f"/keys/{world.key.pk}/rotate" if rotated else "/keys"
    body = {} if rotated else {"name": "new", "group_id": world.gateway.pk, "member_id": world.mia.pk}
    first, again = (sent(ask, path, body, key="k") for _ in range(2))
    text = first.json()["text"]
    assert text.startswith("gh_sk_")
    assert again.json() == {**first.json(), "text": None}
    secret = text.rpartition("_")[2]
    assert secret not in again.content.decode()
    assert not [row for row in AnsweredRequest.objects.values() if secret in str(row)]
    assert ApiKey.objects.filter(member=world.mia).count() == (1 if rotated else 2)


def test_one_is_invited_and_the_link_given_once(world: World) -> None:
    ask = api(world, "alice")
    body = {"group_id": world.gateway.pk, "email": "new@example.test"}
    first, again = (sent(ask, "/invitations", body, key="k") for _ in range(2))
    assert first.json()["link"].startswith("http")
    assert again.json() == {**first.json(), "link": None}
    assert first.json()["link"].rstrip("/").rpartition("/")[2] not in AnsweredRequest.objects.get().body
    assert Invitation.objects.filter(email="new@example.test").count() == 1


def test_each_token_and_each_session_has_keys_of_its_own(world: World) -> None:
    session = api(world, "alice")
    session.client = Client()
    session.client.force_login(world.alice)
    asked = [api(world, "alice"), api(world, "alice"), api(world, "sam"), session]
    bodies = [{"parent_id": world.gateway.pk, "name": name} for name in "ABCD"]
    answers = [sent(ask, "/groups", body, key="1") for ask, body in zip(asked, bodies, strict=True)]
    assert [(answer.status_code, answer.json()["name"]) for answer in answers] == [(201, name) for name in "ABCD"]


def test_an_organisation_is_made_once(world: World) -> None:
    ask = api(world, "mia")
    given: Any = {"data": '{"name": "Mine"}', "content_type": "application/json", "headers": {"Idempotency-Key": "k"}}
    first, again = (ask.client.post("/api/v1/organizations", **given) for _ in range(2))
    assert (first.status_code, again.content) == (201, first.content)
    assert Organization.objects.filter(name="Mine").count() == 1


def test_a_kept_answer_is_given_only_to_who_may_ask(world: World) -> None:
    ask = api(world, "mia")
    body = {"name": "new", "group_id": world.gateway.pk, "member_id": world.mia.pk}
    assert sent(ask, "/keys", body, key="k").status_code == 201
    freeze_organization(world.acme, by=operator(), reason="x")
    assert code(sent(ask, "/keys", body, key="k").json()) == "organization_frozen"
    freeze_person(world.mia, by=operator(), reason="x")
    assert sent(ask, "/keys", body, key="k").status_code == 401


def test_a_request_that_runs_still_is_not_run_beside_itself(world: World) -> None:
    ask = api(world, "alice")
    with transaction.atomic():
        sent(ask, "/groups", new_group(world), key="k")
        lock = int.from_bytes(AnsweredRequest.objects.get().key_digest[:8], signed=True)
        transaction.set_rollback(True)
    with psycopg.connect(database.conninfo(), autocommit=True) as other:
        other.execute("SELECT pg_advisory_lock(%s)", [lock])
        meanwhile = sent(ask, "/groups", new_group(world), key="k")
        assert (meanwhile.status_code, code(meanwhile.json())) == (409, "request_in_progress")
        assert (meanwhile.headers["Retry-After"], count_of()) == ("1", 0)
    assert sent(ask, "/groups", new_group(world), key="k").status_code == 201


def test_a_key_stands_for_its_request_for_a_day(world: World) -> None:
    ask = api(world, "alice")
    for name, hours in (("A", 23), ("B", 24)):
        sent(ask, "/groups", new_group(world, name), key=name)
        AnsweredRequest.objects.filter(body__contains=f'"{name}"').update(answered_at=timezone.now() - timedelta(hours=hours))
    assert sent(ask, "/groups", new_group(world, "C"), key="A").status_code == 409
    assert sent(ask, "/groups", new_group(world, "C"), key="B").status_code == 201
    AnsweredRequest.objects.filter(body__contains='"C"').update(answered_at=timezone.now() - timedelta(hours=24))
    assert (forget_answers(), forget_answers(), AnsweredRequest.objects.count()) == (1, 0, 1)


@pytest.mark.parametrize("key", ["", "a" * 256, "\x7f", "a\tb", "ü"], ids=["empty", "long", "delete", "tab", "foreign"])
def test_what_is_no_key_is_refused(world: World, key: str) -> None:
    refused = sent(api(world, "alice"), "/groups", new_group(world), key=key)
    assert (refused.status_code, refused.json()["error"]["param"], count_of()) == (422, "Idempotency-Key", 0)


def test_bodies_that_are_none_are_refused_as_without_a_key(world: World) -> None:
    ask = api(world, "alice")
    for text in ("{", "[" * 100_000, "[" * 100_000 + "]" * 100_000):
        response = ask.client.post(f"{ask.base}/groups", text, content_type="application/json", headers={"Idempotency-Key": "k"})
        assert (response.status_code, code(response.json())) == (400, "invalid_json")
    for depth in range(100, 1000, 100):
        text = "[" * depth + "]" * depth
        response = ask.client.post(f"{ask.base}/groups", text, content_type="application/json", headers={"Idempotency-Key": "k"})
        assert response.status_code in (400, 422)
    session = Client()
    session.force_login(world.alice)
    response = session.post(f"{ask.base}/groups", {"name": "form"}, headers={"Idempotency-Key": "k"})
    assert (response.status_code, code(response.json())) == (415, "unsupported_media_type")
    assert AnsweredRequest.objects.count() == 0


def test_changes_that_are_the_same_when_repeated_need_no_key(world: World) -> None:
    """A PATCH or DELETE with one is made as without."""
    ask = api(world, "alice")
    answers = [sent(ask, f"/groups/{world.core.pk}", {"kind": kind}, key="k", method="patch") for kind in ("a", "b")]
    assert [answer.json()["kind"] for answer in answers] == ["a", "b"]
    assert AnsweredRequest.objects.count() == 0


def test_the_document_says_which_operations_take_a_key() -> None:
    for path, item in document()["paths"].items():
        for method, one in item.items():
            names = [parameter["name"] for parameter in one.get("parameters", [])]
            assert ("Idempotency-Key" in names, "409" in one["responses"]) == (method == "post", method == "post"), path
