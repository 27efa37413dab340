"""`/v1/videos`: what was asked for is told and handed on by whoever makes it; nothing of it is kept here."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import msgspec
from django.http import HttpResponse, HttpResponseBase, StreamingHttpResponse
from rest_framework.request import Request

from gateway_project.lib.database import DatabaseUnavailable
from gateway_project.lib.redis import RedisUnavailable
from proxy import headers, video_jobs
from proxy.errors import AttemptFailed, BadRequest, GuardrailsUnavailable, ProxyError, VideoNotFound, as_proxy_error
from proxy.protocols import videos
from proxy.providers.base import Upstream
from proxy.video_jobs import RUNNING, Job
from proxy.views import Calls, ProxyView, asking

VARIANTS = ("video", "thumbnail", "spritesheet")
MOST_LISTED, USUALLY_LISTED = 100, 20
PASSED_ON = ("content-type", "content-length", "content-disposition")


class Videos(Calls):
    """POST asks for one, GET lists them."""

    codec = videos

    async def get(self, request: Request) -> HttpResponseBase:
        caller = await asking(request)
        after, limit, descending = _page_of(request)
        try:
            found = await video_jobs.page(caller.principal, after=after, limit=limit + 1, descending=descending)
        except DatabaseUnavailable as error:
            raise GuardrailsUnavailable from error
        shown = [video_jobs.described(job) for job in found[:limit]]
        ends = {"first_id": shown[0]["id"], "last_id": shown[-1]["id"]} if shown else {"first_id": None, "last_id": None}
        return _answer({"object": "list", "data": shown, "has_more": len(found) > limit, **ends})


class Video(ProxyView):
    async def get(self, request: Request, id: str) -> HttpResponseBase:
        try:
            job = await _find(request, id)
            if job.status == "expired":
                return _answer(video_jobs.described(job))
            told, body = await video_jobs.told_of(job)
            await video_jobs.judge(job, video_jobs.known(told.status, job))
        except (DatabaseUnavailable, RedisUnavailable, AttemptFailed) as error:
            raise _told(error) from error
        return HttpResponse(videos.renamed(body, id=job.id), headers=headers.of_a_question())

    async def delete(self, request: Request, id: str) -> HttpResponseBase:
        """Only what has ended: a job that nobody can ask about any more could not be given back."""
        try:
            job = await _find(request, id)
            if await _ended(job) in RUNNING:
                raise BadRequest("The video is still being made; it can be deleted when it has ended.", code="video_running")
            await _forget(job)
            await video_jobs.delete(job)
        except (DatabaseUnavailable, RedisUnavailable, AttemptFailed) as error:
            raise _told(error) from error
        return _answer({"id": job.id, "object": "video.deleted", "deleted": True})


class Content(ProxyView):
    async def get(self, request: Request, id: str) -> HttpResponseBase:
        variant = request.query_params.get("variant", "video")
        if variant not in VARIANTS:
            raise BadRequest(f"variant: must be one of {', '.join(VARIANTS)}.", param="variant")
        try:
            job = await _find(request, id)
            upstream = await _content(job, variant)
        except (DatabaseUnavailable, RedisUnavailable, AttemptFailed) as error:
            raise _told(error) from error
        passed = {name: upstream.headers[name] for name in PASSED_ON if name in upstream.headers}
        if "content-encoding" in upstream.headers:
            passed.pop("content-length", None)  # it is undone on the way
        parts = relay(upstream)
        await anext(parts)
        return StreamingHttpResponse(parts, headers=headers.of_a_question() | passed)


async def _content(job: Job, variant: str) -> Upstream:
    """Whoever holds a video has paid for it: the verdict falls before the first byte. Raises VideoNotFound too."""
    upstream = await video_jobs.film_of(job, variant=variant)
    try:
        if await video_jobs.judge(job, "completed") != "completed":
            raise VideoNotFound("The video was not finished; what it cost is given back.")
    except BaseException:
        await upstream.close()
        raise
    return upstream


async def relay(upstream: Upstream) -> AsyncGenerator[bytes]:
    """The bytes as they come. The first item is empty: it is taken before the headers go out, so that `finally` runs."""
    try:
        yield b""
        async for chunk in upstream.chunks():
            yield chunk
    finally:
        await upstream.close()


async def _find(request: Request, id: str) -> Job:
    """Raises VideoNotFound, DatabaseUnavailable, and what refuses the key."""
    caller = await asking(request)
    job = await video_jobs.find(caller.principal, id)
    if job is None:
        raise VideoNotFound
    return job


async def _ended(job: Job) -> str:
    """The status that stands. A job that the provider does not know is judged by whoever polls, not by who deletes it."""
    if job.status not in RUNNING:
        return job.status
    told, _ = await video_jobs.told_of(job)
    return await video_jobs.judge(job, video_jobs.known(told.status, job))


async def _forget(job: Job) -> None:
    """At the provider. Raises AttemptFailed, but not where it has forgotten the video already."""
    try:
        await video_jobs.forget(job)
    except AttemptFailed as failure:
        if failure.status != 404:
            raise


def _told(error: Exception) -> ProxyError:
    """An id that the provider does not know (any more) is one that we do not, either."""
    if isinstance(error, AttemptFailed):
        return VideoNotFound("The provider does not have it.") if error.status == 404 else as_proxy_error(error)
    return GuardrailsUnavailable()


def _page_of(request: Request) -> tuple[str | None, int, bool]:
    """Raises BadRequest."""
    given = request.query_params
    limit, order = given.get("limit", str(USUALLY_LISTED)), given.get("order", "desc")
    if not (limit.isascii() and limit.isdecimal() and 1 <= int(limit[:4]) <= MOST_LISTED):
        raise BadRequest(f"limit: must be a whole number from 1 to {MOST_LISTED}.", param="limit")
    if order not in ("asc", "desc"):
        raise BadRequest("order: must be asc or desc.", param="order")
    after = given.get("after")
    if after is not None and video_jobs.call_id_of(after) is None:
        raise BadRequest("after: must be the id of a video.", param="after")
    return after, int(limit[:4]), order == "desc"


def _answer(content: dict[str, Any]) -> HttpResponse:
    return HttpResponse(msgspec.json.encode(content), headers=headers.of_a_question())
