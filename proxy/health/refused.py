"""Keys that providers refuse: at which deployments, since when, and whether people have been told.

A mark is set by the first attempt that is refused and gone with the first that succeeds there (lua/report.lua). A success of the
same key elsewhere says that the key is good: the mark stays, and is believed no longer (`believed`), until the key is refused
there an hour after the last call that it served anywhere. Kept in Redis alone: one that lost everything takes all keys for good
until the next refusal, which is then told anew.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import UTC, datetime
from typing import NamedTuple, cast

from redis.exceptions import RedisError

from gateway_project.lib import redis
from proxy.deployments import Deployment
from proxy.health import keys


class Refusal(NamedTuple):
    """`own_key_id`: of an organisation's own key; None for the operator's."""

    deployment_id: int
    own_key_id: int | None
    since: datetime

    @property
    def name(self) -> str:
        """`Deployment.health_name`."""
        return str(self.deployment_id) if self.own_key_id is None else f"{self.deployment_id}k{self.own_key_id}"


def found() -> list[Refusal]:
    """Every deployment whose latest attempt was refused. Raises RedisError."""
    marks = cast("dict[bytes, bytes]", redis.client().hgetall(keys.REFUSED))
    return [_refusal(name.decode(), int(since)) for name, since in marks.items()]


def shown() -> list[Refusal]:
    """For pages: nothing is known where Redis is away."""
    try:
        return found()
    except RedisError:
        return []


def served_by(deployment: Deployment) -> str:
    """The name of the key that a deployment is called with."""
    own = deployment.own_key_id
    return operators_key(deployment.target.provider_name) if own is None else own_account(own)


def operators_key(provider_name: str) -> str:
    return f"n{provider_name}"


def believed(marks: Iterable[tuple[Refusal, str]]) -> list[Refusal]:
    """Those whose key has served no call since; each comes with the name of its key. Where Redis is away all of them."""
    kept = list(marks)
    if not kept:
        return []
    try:
        served = cast("list[bytes | None]", redis.client().hmget(keys.WORKED, [key for _, key in kept]))
    except RedisError:
        return [mark for mark, _ in kept]
    return [mark for (mark, _), when in zip(kept, served, strict=True) if when is None or int(when) < _milliseconds(mark.since)]


def forget(over: Iterable[Refusal]) -> None:
    """They say nothing any more. Raises RedisError."""
    names = [refusal.name for refusal in over]
    if names:
        redis.client().hdel(keys.REFUSED, *names)


def forget_own_key(own_key_id: int) -> None:
    """What was found out of another secret says nothing of this one. Where Redis is away the next success says so."""
    _end(own_account(own_key_id), (mark for mark in shown() if mark.own_key_id == own_key_id))


def forget_provider(provider_id: int, deployment_ids: Collection[int]) -> None:
    """As `forget_own_key`, for the operator's key at its deployments."""
    of_operator = (mark for mark in shown() if mark.own_key_id is None)
    _end(account(provider_id), (mark for mark in of_operator if mark.deployment_id in deployment_ids))


def account(provider_id: int) -> str:
    """What the operator's key at a provider is told as."""
    return f"p{provider_id}"


def own_account(own_key_id: int) -> str:
    return f"k{own_key_id}"


def is_to_be_told(account: str) -> bool:
    """Whether nobody has been told yet; whoever is answered yes tells. Raises RedisError."""
    return bool(redis.client().hsetnx(keys.TOLD, account, 1))


def was_not_told(account: str) -> None:
    """Nobody could be told: somebody else may try. Raises RedisError."""
    redis.client().hdel(keys.TOLD, account)


def end_all_but(accounts: Collection[str]) -> None:
    """Of all others the next refusal is told again. Raises RedisError."""
    told = cast("list[bytes]", redis.client().hkeys(keys.TOLD))
    over = {name.decode() for name in told}.difference(accounts)
    if over:
        redis.client().hdel(keys.TOLD, *over)


def _end(account: str, over: Iterable[Refusal]) -> None:
    try:
        forget(over)
        was_not_told(account)
    except RedisError:
        return


def _milliseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def _refusal(name: str, milliseconds: int) -> Refusal:
    deployment, _, own_key = name.partition("k")
    return Refusal(int(deployment), int(own_key) if own_key else None, datetime.fromtimestamp(milliseconds / 1000, UTC))
