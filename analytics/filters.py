"""What the URL of a page says: period, scope and filters. A link is a view; a value that makes no sense is left out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple
from urllib.parse import urlencode
from uuid import UUID
from zoneinfo import ZoneInfo

from django.http import QueryDict

from billing.models import UsageRecord
from gateway_project.lib.queries import id_in, text_in
from guardrails.windows import Calendar, Kind, containing, day_begins, starts_between
from orgs.actor import Actor
from orgs.permissions import Permission

PERIODS = {"24h": "24 h", "7d": "7 d", "30d": "30 d", "month": "Month"}
DEFAULT_PERIOD = "30d"
# Of what is filtered by a name, in characters.
LENGTHS = {"model": 200, "status": 12, "preset": 60}

# Calls can be narrowed to, with their names; an adjustment is no call.
STATUSES = {status.value: status.label for status in UsageRecord.Status if status != UsageRecord.Status.ADJUSTMENT}


@dataclass(frozen=True)
class Period:
    """[starts_at, ends_at) against [before_starts_at, before_ends_at), which is as long; `step` is "hour" or "day"."""

    name: str
    step: str
    starts_at: datetime
    ends_at: datetime
    before_starts_at: datetime
    before_ends_at: datetime
    slots: tuple[datetime, ...]
    zone: ZoneInfo

    @property
    def labels(self) -> list[str]:
        local = [slot.astimezone(self.zone) for slot in self.slots]
        return [f"{at:%H:%M}" if self.step == "hour" else f"{at:%b} {at.day}" for at in local]

    @property
    def drawn(self) -> Period:
        """The same in steps that make a picture: one day, as a month is at its beginning, by hours."""
        if len(self.slots) > 1:
            return self
        first = self.starts_at.astimezone(UTC)  # where adding an hour is an hour: where clocks are changed, a day has 23 or 25
        hours = range(math.ceil((self.ends_at - first) / timedelta(hours=1)))
        return replace(self, step="hour", slots=tuple(first + timedelta(hours=count) for count in hours) or self.slots)

    @property
    def before(self) -> str:
        """The period compared with, in words: whole days by their names, and the hour at which a last one is left."""
        start, end = (at.astimezone(self.zone) for at in (self.before_starts_at, self.before_ends_at))
        first, last = f"{start:%b} {start.day}", f"{end:%b} {end.day}"
        if self.step == "day" and start < end and start.time() == end.time():
            over = end - timedelta(days=1)  # the last day ends where the next one begins
            last = f"{over:%b} {over.day}"
            return first if first == last else f"{first} – {last}"
        if first == last:
            return f"{first}, {start:%H:%M} – {end:%H:%M}"
        return f"{first}, {start:%H:%M} – {last}, {end:%H:%M}" if self.step == "hour" else f"{first} – {last}, {end:%H:%M}"


def period_named(name: str | None, *, now: datetime, calendar: Calendar | str, default: str = DEFAULT_PERIOD) -> Period:
    """Ends now; the period before ends as far into its own last day, to the nearest hour. Days and months are those of budgets,
    by one calendar.
    """
    calendar = Calendar(calendar) if isinstance(calendar, str) else calendar
    zone, name = ZoneInfo(calendar.time_zone), name if name in PERIODS else default
    if name == "24h":
        ends = now.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
        slots = tuple(ends - timedelta(hours=back) for back in range(24, 0, -1))
        day = timedelta(days=1)
        return Period(name, "hour", slots[0], ends, slots[0] - day, _nearest_hour(now) - day, slots, zone)
    tomorrow = _bounds(now, "day", calendar)[1]
    if name == "month":
        first = _bounds(now, "month", calendar)[0]
        slots = tuple(starts_between(first, tomorrow, "day", calendar))
        starts_before = _bounds(first - timedelta(seconds=1), "month", calendar)[0]
    else:
        count = {"7d": 7, "30d": 30}[name]
        slots = _last_days(count, until=tomorrow, calendar=calendar)
        starts_before = _last_days(count, until=slots[0], calendar=calendar)[0]
    ends_before = _as_far(now - slots[0], after=starts_before, until=slots[0])
    return Period(name, "day", slots[0], tomorrow, starts_before, ends_before, slots, zone)


def period_of_days(first: date, last: date, *, now: datetime, calendar: Calendar) -> Period:
    """Both days included. The period before ends as far into its own last day where the last one is not over."""
    starts, ends = day_begins(first, calendar), day_begins(last + timedelta(days=1), calendar)
    starts_before = day_begins(first - (last - first) - timedelta(days=1), calendar)
    passed = max(now - starts, timedelta(0))
    # A day that a change of the time zone left out begins and ends at once.
    slots = tuple(starts_between(starts, ends, "day", calendar)) or (starts,)
    ends_before = _as_far(passed, after=starts_before, until=starts)
    return Period("days", "day", starts, ends, starts_before, ends_before, slots, ZoneInfo(calendar.time_zone))


def _as_far(passed: timedelta, *, after: datetime, until: datetime) -> datetime:
    """Where the period before ends."""
    return min(max(_nearest_hour(after + passed), after), until)


def _nearest_hour(moment: datetime) -> datetime:
    """Rollups know whole hours: so the sum is the same whether they are made or not, and the first minutes of a month are not
    compared with a whole hour of the month before.
    """
    return (moment + timedelta(minutes=30)).replace(minute=0, second=0, microsecond=0)


def _last_days(count: int, *, until: datetime, calendar: Calendar) -> tuple[datetime, ...]:
    """Beginnings of the last days before `until`, where one begins; two days more are looked at, as one may be left out."""
    return tuple(starts_between(until - timedelta(days=count + 2), until, "day", calendar))[-count:]


def _bounds(moment: datetime, kind: Kind, calendar: Calendar) -> tuple[datetime, datetime]:
    starts_at, ends_at = containing(moment, kind, calendar)
    return starts_at or moment, ends_at or moment


class Scope(NamedTuple):
    """Whose usage may be seen: everything below these groups, and the person's own. `whole`: all of the organisation."""

    organization_id: int
    group_ids: tuple[int, ...]
    member_id: int
    whole: bool

    @classmethod
    def of(cls, actor: Actor) -> Scope:
        groups = actor.scope(Permission.VIEW_USAGE)
        whole = any(group.level == 0 for group in groups)
        return cls(actor.organization.pk, tuple(group.pk for group in groups), actor.user.pk, whole)

    @property
    def is_own(self) -> bool:
        return not self.group_ids

    def sql(self) -> tuple[str, dict[str, Any]]:
        """A condition on a row with the ledger's columns: the path is the one at the time of the call."""
        if self.whole:
            return "true", {}
        below = " OR ".join(f"group{level}_id = ANY(%(scope_groups)s)" for level in range(1, 5))
        return f"({below} OR member_id = %(scope_member)s)", {
            "scope_groups": list(self.group_ids),
            "scope_member": self.member_id,
        }


class Filters(NamedTuple):
    """Narrowing by the URL; None and "" are no filter. Numbers are ids, which need no check: the scope bounds them all."""

    group: int | None = None
    member: int | None = None
    key: int | None = None
    application: int | None = None
    model: str = ""
    status: str = ""
    preset: str = ""

    @classmethod
    def of(cls, query: QueryDict) -> Filters:
        ids = {name: id_in(query.get(name)) for name in ("group", "member", "key", "application")}
        words = {name: text_in(query.get(name), length) for name, length in LENGTHS.items()}
        status = words["status"] if words["status"] in STATUSES else ""
        return cls(**ids, model=words["model"], status=status, preset=words["preset"])

    def sql(self) -> tuple[str, dict[str, Any]]:
        """Conditions on a row of rollups.USAGE_SQL."""
        conditions, columns = [], {"member": "member_id", "key": "api_key_id", "application": "application_id"}
        if self.group is not None:
            conditions.append("%(group)s IN (group0_id, group1_id, group2_id, group3_id, group4_id)")
        for name, value in self._asdict().items():
            if name != "group" and value not in (None, ""):
                conditions.append(f"{columns.get(name, name)} = %({name})s")
        return " AND ".join(conditions) or "true", self._asdict()


def calls_beginning_with(text: str) -> tuple[UUID, UUID] | None:
    """The smallest and largest id that begin like this, of at least four hexadecimal digits; None if it is no id."""
    digits = text.lower().removeprefix("req_").replace("-", "")
    if not 4 <= len(digits) <= 32 or set(digits).difference("0123456789abcdef"):
        return None
    return UUID(digits.ljust(32, "0")), UUID(digits.ljust(32, "f"))


def url_with(query: QueryDict, changes: Mapping[str, str | None], *, path: str = "") -> str:
    """The same page with other parameters; paging starts anew."""
    kept = {name: query[name] for name in query if name not in ("before", "after")}
    wanted = {name: value for name, value in {**kept, **changes}.items() if value}
    return f"{path}?{urlencode(wanted)}" if wanted else path or "?"
