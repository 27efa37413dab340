"""Requests of models, and several keys at once, by the API: the console's rules and its trail."""

from __future__ import annotations

import pytest

from guardrails.models import Request
from guardrails.requests import approve_model
from guardrails.services.several import MOST_KEYS
from orgs.models import ApiKey, AuditEvent
from orgs.services.keys import create_api_key
from tests.actors import World
from tests.apis import Json, api, code
from tests.guardrails.new_models import MODEL, offer_new_model


@pytest.fixture
def asking(world: World) -> World:
    return offer_new_model(world)


def asked(world: World, name: str = "mia", group: str = "gateway") -> Json:
    wanted = {"model": MODEL, "group_id": getattr(world, group).pk, "reason": "For the search"}
    answer: Json = api(world, name)("post", "/requests", wanted, status=201)
    return answer


def actions(world: World) -> list[str]:
    events = AuditEvent.objects.filter(organization=world.acme, object_type="request").order_by("pk")
    return [event.action.removeprefix("request.") for event in events]


# --- requests -----------------------------------------------------------------------------------
def test_a_member_asks_and_an_admin_above_approves(asking: World) -> None:
    made = asked(asking)
    mia, sam = api(asking, "mia"), api(asking, "sam")
    assert (made["status"], made["group_id"], made["requested_by_id"]) == ("open", asking.gateway.pk, asking.mia.pk)
    assert made == mia("get", f"/requests/{made['id']}") == sam("get", f"/requests?status=open&model={MODEL}")["data"][0]
    assert sam("get", "/requests?status=approved")["data"] == []
    assert code(mia("post", f"/requests/{made['id']}/approve", {}, status=403)) == "permission_missing"
    approved = sam("post", f"/requests/{made['id']}/approve", {"answer": "Fine"})
    assert (approved["status"], approved["answer"], approved["decided_by_id"]) == ("approved", "Fine", asking.sam.pk)
    assert code(sam("post", f"/requests/{made['id']}/approve", {}, status=422)) == "refused"
    assert actions(asking) == ["made", "approved"]


def test_an_approval_may_be_wider_than_what_was_asked_but_no_wider_than_its_admin(asking: World) -> None:
    path = f"/requests/{asked(asking)['id']}/approve"
    wider = {"group_id": asking.platform.pk}
    assert code(api(asking, "sam")("post", path, wider, status=403)) == "permission_missing"
    beside = api(asking, "alice")("post", path, {"group_id": asking.sales.pk}, status=422)
    assert beside["error"]["param"] == "group_id"
    assert api(asking, "lena")("post", path, wider)["group_id"] == asking.platform.pk


def test_a_decline_says_why_and_a_request_can_be_taken_back_by_its_asker_only(asking: World) -> None:
    sam, first = api(asking, "sam"), f"/requests/{asked(asking)['id']}"
    assert sam("post", f"{first}/decline", {}, status=422)["error"]["param"] == "answer"
    assert sam("post", f"{first}/decline", {"answer": "Too dear"})["status"] == "declined"
    second = f"/requests/{asked(asking)['id']}"
    assert code(sam("post", f"{second}/withdraw", status=403)) == "permission_missing"
    assert api(asking, "mia")("post", f"{second}/withdraw")["status"] == "withdrawn"
    assert actions(asking) == ["made", "declined", "made", "withdrawn"]


def test_an_approval_nobody_asked_for_and_its_end_with_those_below(asking: World) -> None:
    below = approve_model(MODEL, group=asking.core, by=asking.actor("alice"))
    lena = api(asking, "lena")
    made = lena("post", "/requests/approvals", {"model": MODEL, "group_id": asking.platform.pk}, status=201)
    assert (made["status"], made["requested_by_id"]) == ("approved", asking.lena.pk)
    ended = lena("post", f"/requests/{made['id']}/revoke", {"answer": "Over"})["ended"]
    assert {one["id"]: one["status"] for one in ended} == {made["id"]: "declined", below.pk: "declined"}
    assert actions(asking)[-2:] == ["revoked", "revoked"]


def test_what_cannot_be_asked_for_is_refused(asking: World) -> None:
    mia = api(asking, "mia")
    for wanted, status, param in (
        ({"model": "old", "group_id": asking.gateway.pk}, 422, "model"),
        ({"model": MODEL, "group_id": asking.sales.pk}, 404, None),
        ({"model": MODEL, "group_id": asking.gateway.pk, "reason": "x" * 501}, 422, "reason"),
        ({"model": MODEL}, 422, "group_id"),
    ):
        assert mia("post", "/requests", wanted, status=status)["error"]["param"] == param
    only_reads = api(asking, "mia", "requests:read")
    assert code(only_reads("post", "/requests", {"model": MODEL, "group_id": asking.gateway.pk}, status=403)) == "scope_missing"
    assert not Request.objects.filter(organization=asking.acme).exists()


# --- several keys ---------------------------------------------------------------------------------
def test_several_keys_are_changed_each_by_itself(world: World) -> None:
    """Sam manages what lies below; a key beside, one of another company and one that never was are the same to him."""
    second, _ = create_api_key(world.gateway, name="second", member=world.mia, by=world.actor("alice"))
    beside, _ = create_api_key(world.field, name="beside", member=world.noah, by=world.actor("alice"))
    sam, ids = api(world, "sam"), [second.pk, beside.pk, world.key.pk, 2**62]

    def changed(change: str) -> dict[int, str]:
        rows = sam("post", "/keys/change", {"change": change, "key_ids": ids})["outcomes"]
        assert [row["key_id"] for row in rows] == ids
        assert all(row["done"] == (row["refusal"] == "") for row in rows)
        return {row["key_id"]: row["refusal"] for row in rows}

    absent = "There is no such key, or none that you may see."
    early = changed("delete")
    assert (early[second.pk], early[beside.pk], early[2**62]) == ("Disable it first: that can be undone.", absent, absent)
    for change, status in (("disable", "disabled"), ("enable", "active"), ("disable", "disabled"), ("delete", "revoked")):
        assert changed(change) == {second.pk: "", beside.pk: absent, world.key.pk: "", 2**62: absent}
        assert {ApiKey.objects.get(pk=pk).status for pk in (second.pk, world.key.pk)} == {status}
    assert ApiKey.objects.get(pk=beside.pk).status == "active"
    assert changed("enable") == dict.fromkeys(ids, absent)
    deleted = AuditEvent.objects.filter(action="key.revoked", actor=world.sam).values_list("object_id", flat=True)
    assert set(deleted) == {str(second.pk), str(world.key.pk)}


def test_what_may_be_seen_only_is_left_and_says_why(world: World) -> None:
    """Mia enables nothing that an admin has disabled."""
    api(world, "sam")("post", f"/keys/{world.key.pk}/disable")
    rows = api(world, "mia")("post", "/keys/change", {"change": "enable", "key_ids": [world.key.pk]})["outcomes"]
    assert (rows[0]["done"], rows[0]["refusal"] != "") == (False, True)
    assert ApiKey.objects.get(pk=world.key.pk).status == "disabled"


@pytest.mark.parametrize(
    ("sent", "param"),
    [
        ({"change": "rotate", "key_ids": [1]}, "change"),
        ({"change": "enable", "key_ids": []}, "key_ids"),
        ({"change": "enable", "key_ids": list(range(1, MOST_KEYS + 2))}, "key_ids"),
        ({"change": "enable", "key_ids": ["a"]}, "key_ids.0"),
        ({"change": "enable"}, "key_ids"),
    ],
)
def test_a_wrong_list_of_keys_is_refused(world: World, sent: Json, param: str) -> None:
    assert api(world, "alice")("post", "/keys/change", sent, status=422)["error"]["param"] == param
