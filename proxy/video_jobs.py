"""Videos: jobs that a provider works on after the call that asked for them has been answered.

* A job's price is known when it is accepted, so the call is charged like any other, then and there: nothing is held longer
  than the call takes. While the job runs it counts as spent.
* **The verdict** (completed, failed, not finished in time) falls once, in one statement. If it is not `completed`, what was
  charged is taken back by one adjusting row, and then the job is finished: who dies between the two is followed by
  another round, which finds the row booked. Once a video can be downloaded, its verdict has fallen.
* A job is written down before its call's row: where that cannot be, the call fails and is charged nothing. What the provider
  makes all the same nobody sees.
"""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from urllib.parse import quote
from uuid import UUID

import msgspec
import structlog

from gateway_project.lib import database
from gateway_project.lib.database import DatabaseUnavailable
from orgs.access import Principal
from proxy import deployments, giving_back, listed, own_keys
from proxy.call import Call
from proxy.deployments import Deployment
from proxy.errors import AttemptFailed, GuardrailsUnavailable
from proxy.exchange import Whole
from proxy.protocols import registry, videos
from proxy.protocols.base import VideoProviderCodec
from proxy.providers.base import Target, Upstream
from proxy.providers.registry import Provider

log = structlog.get_logger(__name__)

PREFIX = "video_"
RUNNING = ("queued", "in_progress")
# A job that has not ended by then never will.
MOST_AGE = timedelta(hours=24)
EXPIRED = {"code": "expired", "message": "The video was not finished in time; what it cost was given back."}
# Providers may not know at once of what they have accepted.
SETTLING_IN = timedelta(minutes=1)
BATCH = 20

_COLUMNS = """job.call_id, job.organization_id, job.model, job.deployment_id, job.provider_key_id, job.upstream_id, job.size,
       job.status, job.created_at, job.finished_at, now() - job.created_at AS age"""
ACCEPT_SQL = """
INSERT INTO proxy_videojob (call_id, organization_id, model, deployment_id, provider_key_id, upstream_id, size, next_poll_at)
VALUES (%(call_id)s, %(organization_id)s, %(model)s, %(deployment_id)s, %(provider_key_id)s, %(upstream_id)s, %(size)s,
        now() + interval '10 seconds')
RETURNING call_id
"""
# Keys of the same member and application see the same videos, whatever has become of the key that asked for them.
VISIBLE_SQL = f"""
SELECT {_COLUMNS}, u.requested_model, coalesce((u.units->>'second')::int, 0) AS seconds
FROM proxy_videojob job JOIN billing_usagerecord u ON u.call_id = job.call_id
WHERE job.organization_id = %(organization_id)s AND job.deleted_at IS NULL AND u.status = 'ok' AND (
    u.api_key_id = %(api_key_id)s OR (
        coalesce(%(member_id)s::bigint, %(application_id)s::bigint) IS NOT NULL
        AND u.member_id IS NOT DISTINCT FROM %(member_id)s::bigint
        AND u.application_id IS NOT DISTINCT FROM %(application_id)s::bigint
    )
)
"""  # noqa: S608
FIND_SQL = f"{VISIBLE_SQL} AND job.call_id = %(call_id)s"
NEWEST_SQL = f"""{VISIBLE_SQL} AND (%(after)s::uuid IS NULL OR job.call_id < %(after)s::uuid)
ORDER BY job.call_id DESC LIMIT %(limit)s"""
OLDEST_SQL = f"""{VISIBLE_SQL} AND (%(after)s::uuid IS NULL OR job.call_id > %(after)s::uuid)
ORDER BY job.call_id LIMIT %(limit)s"""
# Asked about less and less often, every five minutes in the end. Who dies meanwhile is followed by the next round.
DUE_SQL = f"""
UPDATE proxy_videojob AS job SET tries = job.tries + 1,
       next_poll_at = now() + least(300, 10 * power(1.3, least(job.tries, 20))) * interval '1 second'
FROM (
    SELECT call_id FROM proxy_videojob WHERE finished_at IS NULL AND next_poll_at <= now()
    ORDER BY next_poll_at LIMIT %(batch)s FOR UPDATE SKIP LOCKED
) AS due WHERE due.call_id = job.call_id RETURNING {_COLUMNS}
"""  # noqa: S608
JUDGE_SQL = """
UPDATE proxy_videojob SET status = %(status)s::text, next_poll_at = now(),
       finished_at = CASE WHEN %(status)s::text = 'completed' THEN now() END
WHERE call_id = %(call_id)s AND status IN ('queued', 'in_progress') RETURNING status
"""
STATUS_SQL = "SELECT status FROM proxy_videojob WHERE call_id = %(call_id)s"
GOES_ON_SQL = """
UPDATE proxy_videojob SET status = %(status)s
WHERE call_id = %(call_id)s AND status IN ('queued', 'in_progress') RETURNING status
"""
FINISH_SQL = "UPDATE proxy_videojob SET finished_at = now() WHERE call_id = %s AND finished_at IS NULL RETURNING call_id"
DELETE_SQL = "UPDATE proxy_videojob SET deleted_at = now() WHERE call_id = %s RETURNING call_id"
OWN_KEY_SQL = """
SELECT id, organization_id, kind, provider_id, key_encrypted, base_url, falls_back FROM proxy_providerkey
WHERE id = %s AND organization_id = %s AND enabled
"""


class Job(msgspec.Struct, frozen=True):
    """A row of VISIBLE_SQL or DUE_SQL. `requested_model` and `seconds` stand in the ledger."""

    call_id: UUID
    organization_id: int
    model: str
    deployment_id: int
    provider_key_id: int | None
    upstream_id: str
    size: str
    status: str
    created_at: datetime
    finished_at: datetime | None
    age: timedelta
    requested_model: str = ""
    seconds: int = 0

    @property
    def id(self) -> str:
        return f"{PREFIX}{self.call_id}"

    @property
    def place(self) -> str:
        return f"/videos/{quote(self.upstream_id, safe='')}"


async def accepted(call: Call, whole: Whole) -> Whole:
    """Writes down what a provider has accepted → its answer under our own id. Raises AttemptFailed, GuardrailsUnavailable."""
    told, served = videos.read_told(whole.body), call.served_by
    if served is None:
        raise RuntimeError("a job that nobody has accepted")
    facts = {
        "call_id": call.id,
        "organization_id": call.principal.organization_id,
        "model": served.model,
        "deployment_id": served.id,
        "provider_key_id": served.own_key_id,
        "upstream_id": told.id[:300],
        "size": (told.size or "")[:40],
    }
    try:
        await database.rows(ACCEPT_SQL, facts)
    except DatabaseUnavailable as error:
        raise GuardrailsUnavailable("The video cannot be written down, so nothing is charged for it.") from error
    return Whole(videos.renamed(whole.body, id=f"{PREFIX}{call.id}"), whole.reply, whole.content_type)


async def find(principal: Principal, id: str) -> Job | None:
    """A video that this caller may see. Raises DatabaseUnavailable."""
    call_id = call_id_of(id)
    found = await database.rows(FIND_SQL, {**_reach(principal), "call_id": call_id}) if call_id else []
    return Job(**found[0]) if found else None


async def page(principal: Principal, *, after: str | None, limit: int, descending: bool) -> list[Job]:
    """Raises DatabaseUnavailable."""
    facts = {**_reach(principal), "after": call_id_of(after) if after else None, "limit": limit}
    return [Job(**row) for row in await database.rows(NEWEST_SQL if descending else OLDEST_SQL, facts)]


def call_id_of(id: str) -> UUID | None:
    try:
        return UUID(id.removeprefix(PREFIX)) if id.startswith(PREFIX) else None
    except ValueError:
        return None


def _reach(principal: Principal) -> dict[str, Any]:
    return {
        "organization_id": principal.organization_id,
        "api_key_id": principal.key_id,
        "member_id": principal.member_id,
        "application_id": principal.application_id,
    }


# --- the provider ------------------------------------------------------------------------------
class _Maker(NamedTuple):
    """Who makes a job; `codec` where that is asked in words of its own."""

    provider: Provider
    target: Target
    codec: VideoProviderCodec | None


async def _maker_of(job: Job) -> _Maker:
    """Raises AttemptFailed, DatabaseUnavailable, RedisUnavailable."""
    deployment = await _deployment(job)
    if deployment is None:
        raise AttemptFailed("connect", "The deployment that makes this video is not in the catalogue any more.")
    target = deployment.target
    if job.provider_key_id is not None:
        found = await database.rows(OWN_KEY_SQL, (job.provider_key_id, job.organization_id))
        key = own_keys.opened(own_keys.Stored(**found[0])) if found else None
        if key is None or key.secret is None:
            raise AttemptFailed("auth", "The organisation's own provider key that makes this video is gone.")
        target = own_keys.targeted(target, key)
    codec = registry.VIDEOS.get(deployment.provider.protocol_for(videos.NAME))
    return _Maker(deployment.provider, target, codec)


async def _ask(job: Job, maker: _Maker, *, path: str, method: str = "GET") -> Upstream:
    try:
        return await maker.provider.ask(maker.target, method=method, path=path)
    except AttemptFailed as failure:
        failure.message = failure.message.replace(job.upstream_id, job.id)
        raise


async def _read(job: Job, maker: _Maker) -> bytes:
    upstream = await _ask(job, maker, path=job.place if maker.codec is None else maker.codec.place(job.upstream_id))
    try:
        return await upstream.body()
    finally:
        await upstream.close()


async def told_of(job: Job) -> tuple[videos.Told, bytes]:
    """What the provider says of the job now, in OpenAI's words. Raises AttemptFailed, DatabaseUnavailable, RedisUnavailable."""
    maker = await _maker_of(job)
    body = await _read(job, maker)
    if maker.codec is not None:
        now = maker.codec.read_job(body)
        progress = 100 if now.status == "completed" else 0
        body = msgspec.json.encode(described(job) | {"status": now.status, "progress": progress, "error": now.error})
    return videos.read_told(body), body


async def film_of(job: Job, *, variant: str) -> Upstream:
    """Whoever asks closes. Raises like `told_of`."""
    maker = await _maker_of(job)
    if maker.codec is None:
        query = "" if variant == "video" else f"?variant={variant}"
        return await _ask(job, maker, path=f"{job.place}/content{query}")
    if variant != "video":
        raise AttemptFailed("untranslatable", "This video's provider makes the video alone.", param="variant")
    now = maker.codec.read_job(await _read(job, maker))
    if not now.film:
        raise AttemptFailed("bad_request", "There is no video yet.", code="video_running")
    return await maker.provider.fetch(maker.target, url=now.film)


async def forget(job: Job) -> None:
    """At the provider, where it forgets at all. Raises like `told_of`."""
    maker = await _maker_of(job)
    if maker.codec is None:
        upstream = await _ask(job, maker, path=job.place, method="DELETE")
        await upstream.close()


def described(job: Job) -> dict[str, Any]:
    """A video as far as it is known here, in OpenAI's shape."""
    failed = job.status in ("failed", "expired")
    return {
        "id": job.id,
        "object": "video",
        "created_at": int(job.created_at.timestamp()),
        "model": job.requested_model,
        "seconds": str(job.seconds),
        "size": job.size,
        "status": "failed" if failed else job.status,
        "progress": 100 if job.status == "completed" else 0,
        "error": EXPIRED if job.status == "expired" else None,
    }


async def _deployment(job: Job) -> Deployment | None:
    catalogue = await deployments.refreshed()
    if job.deployment_id < 0:
        model = await listed.find(catalogue, job.model)
        return model.deployments[0] if model is not None and model.deployments else None
    declared = (one for model in catalogue.models.values() for one in model.deployments)
    return next((one for one in declared if one.id == job.deployment_id), None)


# --- what becomes of it ------------------------------------------------------------------------
async def judge(job: Job, status: str) -> str:
    """Says what the provider has told, unless the verdict has fallen → the status that stands. Raises DatabaseUnavailable."""
    if status == job.status:
        return status
    statement = GOES_ON_SQL if status in RUNNING else JUDGE_SQL
    facts = {"call_id": job.call_id, "status": status}
    found = await database.rows(statement, facts) or await database.rows(STATUS_SQL, facts)
    return str(found[0]["status"])


async def poll(*, batch: int = BATCH) -> int:
    """One round over the jobs that are due → how many. Any number may run at once."""
    due = [Job(**row) for row in await database.rows(DUE_SQL, {"batch": batch})]
    ended = await asyncio.gather(*map(follow, due), return_exceptions=True)
    for job, failure in zip(due, ended, strict=True):
        if isinstance(failure, BaseException):  # it is this job's alone, and the next round tries again
            log.error("video.not_followed", call_id=str(job.call_id), error=type(failure).__name__, reason=str(failure))
    return len(due)


async def follow(job: Job) -> None:
    """One step of one job: asks, judges, gives back. Raises RowRefused, DatabaseUnavailable, RedisUnavailable."""
    status = await judge(job, await _seen(job)) if job.status in RUNNING else job.status
    if status not in RUNNING and status != "completed":
        await _give_back(job)


async def _seen(job: Job) -> str:
    late = job.age > MOST_AGE
    try:
        told, _ = await told_of(job)
    except AttemptFailed as failure:
        forgotten = failure.status == 404 and job.age > SETTLING_IN
        log.warning("video.unanswered", call_id=str(job.call_id), reason=failure.kind, status=failure.status)
        return "expired" if forgotten or late else job.status
    status = known(told.status, job)
    return "expired" if late and status in RUNNING else status


def known(status: str, job: Job) -> str:
    """What a provider says, unless it is a word that nobody knows: then nothing has changed."""
    return status if status in (*RUNNING, "completed", "failed") else job.status


async def _give_back(job: Job) -> None:
    """Counters are read anew after the row is there; the job is finished when both is done."""
    if not await giving_back.give_back(job.call_id, absorbed=False) and job.age <= MOST_AGE:
        return  # its row is on its way still, in a spool perhaps: the next round finds it
    await database.rows(FINISH_SQL, (job.call_id,))


async def delete(job: Job) -> None:
    """Raises DatabaseUnavailable."""
    await database.rows(DELETE_SQL, (job.call_id,))
