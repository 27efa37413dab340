"""Videos by the official SDK: charged when they are accepted, handed on when they are made, given back once when they fail."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import httpx
import openai
import pytest
from django.db import connection, transaction

from analytics.rollups import roll_up_usage
from billing import adjusting, credits, prices
from billing.buckets import close_spend_buckets, spend_sums
from billing.models import UsageRecord
from billing.pricing import Rates
from gateway_project.lib import crypto, database
from orgs import epoch
from orgs.models import Organization
from proxy import provider_keys, proving, tasks, video_jobs
from proxy.models import Deployment, Model, Provider, VideoJob
from proxy.provider_keys import Place
from tests.coroutines import as_worker
from tests.gateways import Gateway
from tests.house import House, eventually
from tests.upstream import RESET, Script, Upstream, refuse

# The SDK says that OpenAI's own model of this API ends; others serve it.
pytestmark = pytest.mark.filterwarnings("ignore:The Sora API:DeprecationWarning")

SECOND = 100_000_000
UPSTREAM_ID = "video_upstream_1"
FILM = bytes(range(256)) * 1000


@pytest.fixture(autouse=True)
def studio(house: House, upstream: Upstream) -> Iterator[None]:
    with transaction.atomic():
        sealed = crypto.encrypt("key-of-studio", bound_to="proxy_provider|studio|api_key")
        provider, _ = Provider.objects.update_or_create(
            name="studio", defaults={"kind": "openai", "base_url": upstream.url, "api_key_encrypted": sealed}
        )
        for name in ("film", "film-unpriced"):
            model, _ = Model.objects.get_or_create(name=name, defaults={"kind": "video", "circuit_breaker": False})
            Deployment.objects.get_or_create(model=model, provider=provider, upstream_model="sora-2")
        prices.declare("model:film", rates=Rates(input=0, output=0, units={"second": SECOND}), source="test")
        prices.declare("model:film-unpriced", rates=Rates(input=1, output=1), source="test")
        epoch.catalogue_changing(list(Organization.objects.values_list("id", flat=True)))
    VideoJob.objects.all().delete()
    yield
    upstream.forget()


def told(status: str = "queued", **members: Any) -> Script:
    video = {
        "id": UPSTREAM_ID, "object": "video", "model": "sora-2", "status": status, "progress": 0, "created_at": 1_760_000_000,
        "seconds": "8", "size": "1280x720",
    }  # fmt: skip
    return Script(parts=(json.dumps(video | members).encode(),))


def made(house: House, gateway: Gateway, upstream: Upstream, **members: Any) -> Any:
    upstream.then(told())
    return house.client(gateway.url).videos.create(model="film", prompt="a gate opens", **({"seconds": "8"} | members))


def call_id(video: Any) -> UUID:
    return UUID(video.id.removeprefix("video_"))


def job_of(video: Any) -> VideoJob:
    return VideoJob.objects.get(pk=call_id(video))


def aged(video: Any, interval: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE proxy_videojob SET created_at = now() - %s::interval, next_poll_at = now() WHERE call_id = %s",
            (interval, call_id(video)),
        )


def poll(upstream: Upstream, video: Any, *scripts: Script, age: str = "1 minute") -> None:
    upstream.then(*scripts)
    aged(video, age)
    tasks.poll_videos()


def adjustments(house: House) -> list[UsageRecord]:
    return [row for row in house.rows() if row.status == "adjustment"]


def spent(house: House) -> int:
    return spend_sums(house.organization.pk, subjects=["org"]).lifetime["org"].charged


def is_proven(house: House) -> bool:
    return not proving.prove(house.organization).differences


def test_a_video_is_charged_by_its_seconds_when_it_is_accepted(house: House, gateway: Gateway, upstream: Upstream) -> None:
    video = made(house, gateway, upstream, size="1280x720")

    assert (video.status, video.seconds, video.size) == ("queued", "8", "1280x720")
    assert UPSTREAM_ID not in video.id
    sent = upstream.received[-1]
    assert (sent.method, sent.path, sent.headers["authorization"]) == ("POST", "/v1/videos", "Bearer key-of-studio")
    row = house.row_of(str(call_id(video)))
    assert (row.status, row.protocol, row.units) == ("ok", "videos", {"second": 8})
    assert (row.charged_nano_usd, row.cost_parts["second"], row.usage_estimated) == (8 * SECOND, 8 * SECOND, False)
    assert house.nothing_held()
    job = job_of(video)
    assert (job.upstream_id, job.status, job.size) == (UPSTREAM_ID, "queued", "1280x720")


@pytest.mark.parametrize(
    ("members", "price"),
    [
        ({"size": "1280x720"}, SECOND),
        ({"size": "720x1280"}, SECOND),
        ({"size": "1792x1024"}, 2 * SECOND),
        ({"size": "1920x1080"}, 3 * SECOND),
        ({}, 3 * SECOND),
        ({"size": "1280x720", "extra_body": {"resolution": "4k"}}, 3 * SECOND),
        ({"size": "1280x720", "input_reference": ("a.png", b"PNG")}, SECOND),
    ],
    ids=["wide", "tall", "another one", "one without a price", "none asked for", "a vendor's own wish", "as a form"],
)
def test_its_seconds_cost_what_its_resolution_does(
    house: House, gateway: Gateway, upstream: Upstream, members: dict[str, Any], price: int
) -> None:
    units = {"second": 3 * SECOND, "second_720p": SECOND, "second_1024p": 2 * SECOND}
    with transaction.atomic():  # the next test has its price as before
        prices.declare("model:film", rates=Rates(input=0, output=0, units=units), source="test")
        epoch.catalogue_changing(list(Organization.objects.values_list("id", flat=True)))
    row = house.row_of(str(call_id(made(house, gateway, upstream, **members))))
    assert (row.charged_nano_usd, row.unit_prices["second"], row.units) == (8 * price, price, {"second": 8})
    assert row.reserved_nano_usd == 8 * price, "nobody is refused for what a larger one would have cost"


def test_a_picture_to_begin_with_travels_in_the_form(house: House, gateway: Gateway, upstream: Upstream) -> None:
    upstream.then(told(seconds="4"))
    video = house.client(gateway.url).videos.create(model="film", prompt="a gate", input_reference=("a.png", b"\x89PNG bytes"))

    body = upstream.received[-1].body
    assert b"\x89PNG bytes" in body
    assert b"sora-2" in body
    # What is paid for is said, though the caller left it to the default.
    assert b'name="seconds"\r\n\r\n4\r\n' in body
    assert house.row_of(str(call_id(video))).charged_nano_usd == 4 * SECOND


@pytest.mark.parametrize("seconds", ["0", "-4", "4.5", "many", "601", "٤"])
def test_seconds_are_a_whole_number(house: House, gateway: Gateway, upstream: Upstream, seconds: Any) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        house.client(gateway.url).videos.create(model="film", prompt="a gate", seconds=seconds)
    assert refused.value.param == "seconds"
    assert upstream.received == []


def test_a_price_without_seconds_makes_no_video_for_nothing(house: House, gateway: Gateway, upstream: Upstream) -> None:
    with pytest.raises(openai.PermissionDeniedError) as refused:
        house.client(gateway.url).videos.create(model="film-unpriced", prompt="a gate")
    assert refused.value.code == "model_unpriced"
    assert upstream.received == []


def test_a_running_video_counts_as_spent(house: House, gateway: Gateway, upstream: Upstream) -> None:
    house.limit("budget", 12 * SECOND)
    made(house, gateway, upstream)
    with pytest.raises(openai.PermissionDeniedError) as refused:
        house.client(gateway.url).videos.create(model="film", prompt="a gate", seconds="8")
    assert refused.value.code == "budget_exceeded"


def test_it_is_told_of_and_handed_on(house: House, gateway: Gateway, upstream: Upstream) -> None:
    client, video = house.client(gateway.url), made(house, gateway, upstream)
    upstream.then(told("in_progress", progress=40), told("completed", progress=100, remixed_from_video_id="video_theirs"))

    assert (client.videos.retrieve(video.id).progress, job_of(video).status) == (40, "in_progress")
    done = client.videos.retrieve(video.id)
    assert (done.id, done.status, done.remixed_from_video_id) == (video.id, "completed", None)
    assert (upstream.received[-1].method, upstream.received[-1].path) == ("GET", f"/v1/videos/{UPSTREAM_ID}")
    assert job_of(video).finished_at is not None

    upstream.then(Script(headers={"content-type": "video/mp4"}, parts=(FILM[:1000], FILM[1000:])))
    film = client.videos.download_content(video.id, variant="thumbnail")
    assert (film.read(), film.response.headers["content-type"]) == (FILM, "video/mp4")
    assert upstream.received[-1].target == f"/v1/videos/{UPSTREAM_ID}/content?variant=thumbnail"


def test_a_failed_video_is_given_back_once(house: House, gateway: Gateway, upstream: Upstream) -> None:
    house.limit("budget", 12 * SECOND)
    video = made(house, gateway, upstream)
    assert close_spend_buckets() >= 0
    poll(upstream, video, told("failed", error={"code": "moderation", "message": "No."}))

    [adjusting_row] = adjustments(house)
    assert (adjusting_row.adjusts, adjusting_row.charged_nano_usd) == (call_id(video), -8 * SECOND)
    assert (adjusting_row.units, adjusting_row.member_id) == ({"second": -8}, house.world.mia.pk)
    assert (job_of(video).status, spent(house), is_proven(house)) == ("failed", 0, True)

    poll(upstream, video)  # nothing is due any more
    assert len(adjustments(house)) == 1
    made(house, gateway, upstream)  # the budget has room again
    assert (house.nothing_held(), is_proven(house)) == (True, True)


def test_books_buckets_and_rollups_take_what_is_given_back(house: House, gateway: Gateway, upstream: Upstream) -> None:
    video = made(house, gateway, upstream)
    assert house.nothing_held()
    close_spend_buckets()
    credits.book_usage()
    before = credits.balance(house.organization)
    poll(upstream, video, told("failed"))
    close_spend_buckets()
    roll_up_usage()
    credits.book_usage()
    assert credits.balance(house.organization) == before + 8 * SECOND == credits.available(house.organization)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT sum(calls), sum(charged_nano_usd) FROM analytics_usagerollup WHERE organization_id = %s",
            [house.organization.pk],
        )
        assert cursor.fetchone() == (1, 0)


@pytest.mark.parametrize(
    ("script", "age", "status"),
    [
        (refuse(404), "30 seconds", "queued"),
        (refuse(404), "2 minutes", "expired"),
        (refuse(500), "23 hours", "queued"),
        (refuse(500), "25 hours", "expired"),
        (RESET, "25 hours", "expired"),
        (told("in_progress"), "23 hours", "in_progress"),
        (told("in_progress"), "25 hours", "expired"),
        (told("something new"), "23 hours", "queued"),
        (told("completed"), "25 hours", "completed"),
    ],
)
def test_what_is_forgotten_or_never_ends_is_given_back(
    house: House, gateway: Gateway, upstream: Upstream, script: Script, age: str, status: str
) -> None:
    video = made(house, gateway, upstream)
    poll(upstream, video, script, age=age)
    assert job_of(video).status == status
    assert (len(adjustments(house)), spent(house)) == ((1, 0) if status == "expired" else (0, 8 * SECOND))
    assert (job_of(video).finished_at is not None) == (status in ("expired", "completed"))
    assert is_proven(house)
    if status == "expired":
        assert house.client(gateway.url).videos.retrieve(video.id).status == "failed"


def test_however_often_and_by_however_many_it_is_given_back_it_is_booked_once(
    house: House, gateway: Gateway, upstream: Upstream
) -> None:
    video = made(house, gateway, upstream)
    VideoJob.objects.filter(pk=call_id(video)).update(status="failed")  # as after a crash between verdict and booking

    async def many() -> None:
        [due] = await database.rows(video_jobs.DUE_SQL, {"batch": 5})
        job = video_jobs.Job(**due)
        await asyncio.gather(*(video_jobs.follow(job) for _ in range(8)))
        await video_jobs.follow(job)

    aged(video, "1 minute")
    as_worker(many())
    assert [row.charged_nano_usd for row in adjustments(house)] == [-8 * SECOND]
    assert (spent(house), is_proven(house)) == (0, True)


def test_a_crash_after_the_booking_is_followed_by_a_round_that_ends_it(
    house: House, gateway: Gateway, upstream: Upstream
) -> None:
    video = made(house, gateway, upstream)
    VideoJob.objects.filter(pk=call_id(video)).update(status="failed")

    async def booked() -> None:
        row = await adjusting.row_of(call_id(video))
        assert row is not None
        await adjusting.take_back(row)

    as_worker(booked())
    assert not is_proven(house)  # the counters have not heard of it
    poll(upstream, video)
    assert job_of(video).finished_at is not None
    assert (len(adjustments(house)), is_proven(house)) == (1, True)


def test_a_video_that_was_handed_on_is_never_given_back(house: House, gateway: Gateway, upstream: Upstream) -> None:
    client, video = house.client(gateway.url), made(house, gateway, upstream)
    upstream.then(Script(headers={"content-type": "video/mp4"}, parts=(FILM,)))
    assert client.videos.download_content(video.id).read() == FILM
    poll(upstream, video, refuse(404), age="25 hours")
    assert (job_of(video).status, adjustments(house)) == ("completed", [])


def test_a_video_that_was_given_back_is_never_handed_on(house: House, gateway: Gateway, upstream: Upstream) -> None:
    client, video = house.client(gateway.url), made(house, gateway, upstream)
    poll(upstream, video, refuse(404))
    upstream.then(Script(headers={"content-type": "video/mp4"}, parts=(FILM,)))
    with pytest.raises(openai.NotFoundError):
        client.videos.download_content(video.id)


def test_only_what_has_ended_is_deleted(house: House, gateway: Gateway, upstream: Upstream) -> None:
    client, video = house.client(gateway.url), made(house, gateway, upstream)
    upstream.then(told("in_progress"))
    with pytest.raises(openai.BadRequestError):
        client.videos.delete(video.id)

    upstream.then(told("completed"), Script(parts=(b'{"deleted":true}',)))
    assert client.videos.delete(video.id).deleted
    assert upstream.received[-1].method == "DELETE"
    with pytest.raises(openai.NotFoundError) as missing:
        client.videos.retrieve(video.id)
    assert missing.value.code == "video_not_found"
    assert (client.videos.list().data, adjustments(house)) == ([], [])


def test_videos_are_listed_page_by_page(house: House, gateway: Gateway, upstream: Upstream) -> None:
    ids = [made(house, gateway, upstream).id for _ in range(3)]
    client = house.client(gateway.url)
    assert [video.id for video in client.videos.list(limit=2)] == ids[::-1]  # the SDK asks for the second page itself
    page = client.videos.list(limit=2, order="asc")
    assert ([video.id for video in page.data], page.has_more, page.data[0].seconds) == (ids[:2], True, "8")
    answered = httpx.get(
        f"{gateway.url}/v1/videos?limit=0", headers={"authorization": f"Bearer {house.key_text}"}, trust_env=False
    )
    assert (answered.status_code, answered.json()["error"]["param"]) == (400, "limit")


def test_a_video_is_seen_by_keys_of_the_same_member_alone(house: House, gateway: Gateway, upstream: Upstream) -> None:
    video = made(house, gateway, upstream)
    _, same = house.new_key()
    _, of_application = house.new_key(
        by=house.world.alice,
        application=house.world.assistant,
        environment="production",
        features=["chat"],
    )
    upstream.then(told())
    assert house.client(gateway.url, same).videos.retrieve(video.id).id == video.id
    stranger = house.client(gateway.url, of_application)
    for seen in (stranger.videos.retrieve, stranger.videos.download_content, stranger.videos.delete):
        with pytest.raises(openai.NotFoundError):
            seen(video.id)
    assert stranger.videos.list().data == []
    for id in ("video_1", "x", UPSTREAM_ID):
        with pytest.raises(openai.NotFoundError):
            house.client(gateway.url).videos.retrieve(id)


def test_a_video_on_an_own_key_is_asked_about_with_it_and_given_back_by_the_list(
    house: House, gateway: Gateway, upstream: Upstream
) -> None:
    provider = Provider.objects.get(name="studio")
    provider_keys.add(
        house.world.root, place=Place("openai", provider), name="Ours", secret="sk-own-0123456789", by=house.world.actor("alice")
    )
    video = made(house, gateway, upstream)
    row = house.row_of(str(call_id(video)))
    assert (row.byok, row.charged_nano_usd, row.list_nano_usd) == (True, 0, 8 * SECOND)
    poll(upstream, video, told("failed"))
    assert {received.headers["authorization"] for received in upstream.received} == {"Bearer sk-own-0123456789"}
    [given_back] = adjustments(house)
    assert (given_back.byok, given_back.charged_nano_usd, given_back.list_nano_usd) == (True, 0, -8 * SECOND)
    assert is_proven(house)


def test_what_no_provider_accepted_is_no_job(house: House, gateway: Gateway, upstream: Upstream) -> None:
    upstream.then(refuse(400, "This prompt is not allowed."))
    with pytest.raises(openai.BadRequestError, match="not allowed"):
        house.client(gateway.url).videos.create(model="film", prompt="a gate")
    assert eventually(lambda: [row.charged_nano_usd for row in house.rows()] == [0]), "a row of no cost may follow its answer"
    assert VideoJob.objects.count() == 0
    assert house.nothing_held()
