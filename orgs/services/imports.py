"""Lists of people: judged row by row before anything happens, then invited, a few at once or by the background worker.

A run goes on where one before it stopped: each row says whether it is done, in the transaction that invites it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import timedelta
from functools import partial
from typing import Any

from celery import current_app
from django.db import transaction
from django.utils import timezone
from kombu.exceptions import OperationalError

from orgs import invitation_mail
from orgs.actor import ABOVE, Actor
from orgs.audit import audit
from orgs.errors import NotAllowed, Refused
from orgs.member_files import Line
from orgs.models import Group, MemberImport, Role
from orgs.permissions import Permission, RoleName
from orgs.powers import AnyRole, may_give
from orgs.selectors import roles_visible_to, unarchived, within
from orgs.services.changes import changing, one_line
from orgs.services.invitations import already, clean_email, invite

# More than these are left to the background worker.
AT_ONCE = 50
BATCH = 25
KEPT_DAYS = 30


def judge(lines: Iterable[Line], *, by: Actor) -> list[dict[str, Any]]:
    """Rows as a page shows them and `run` takes them: line, email, name, group (its id), path, role (a token), error."""
    lines = list(lines)
    places, roles = _places(by), _roles(by)
    times = Counter(line.email.strip().lower() for line in lines)
    rows = [_judged(line, places=places, roles=roles, by=by, seen=times) for line in lines]
    _mark_known(rows)
    return rows


def keep(rows: list[dict[str, Any]], *, file_name: str, by: Actor) -> MemberImport:
    """To be confirmed. Nobody is invited yet, so this is no change of the organisation. Lists of long ago are forgotten."""
    long_ago = timezone.now() - timedelta(days=KEPT_DAYS)
    MemberImport.objects.filter(organization=by.organization, created_at__lt=long_ago).delete()
    return MemberImport.objects.create(
        organization=by.organization, file_name=file_name[:120] or "members.csv", rows=rows, created_by=by.user
    )


def confirm(found: MemberImport, *, by: Actor) -> MemberImport:
    """Invites everybody whose row has no error. Raises Refused where that was confirmed before."""
    with changing(by.organization):
        found = MemberImport.objects.select_for_update().get(pk=found.pk)
        if found.status != MemberImport.Status.READ:
            raise Refused("This list was confirmed already.")
        found.status = MemberImport.Status.QUEUED
        found.save(update_fields=["status"])
        people = len([row for row in found.rows if not row["error"]])
        audit("members.imported", by=by, target=found, after={"file": found.file_name, "people": people})
    if people > AT_ONCE:
        transaction.on_commit(partial(_hand_over, found.pk))
    else:
        run(found.pk)
        found.refresh_from_db()
    return found


def run(import_id: int) -> None:
    """In the name of who confirmed it, with the rights of now. What keeps it from going on (Redis away, say) is raised, and the
    list can be confirmed again: it goes on where it stopped."""
    found = MemberImport.objects.select_related("created_by", "organization").filter(pk=import_id).first()
    if found is None or found.status in (MemberImport.Status.READ, MemberImport.Status.DONE):
        return
    MemberImport.objects.filter(pk=import_id).update(status=MemberImport.Status.RUNNING)
    waiting = [at for at, row in enumerate(found.rows) if not row["error"] and not row.get("done")]
    try:
        for beginning in range(0, len(waiting), BATCH):
            _invite(found, waiting[beginning : beginning + BATCH])
    except Exception:
        MemberImport.objects.filter(pk=import_id).update(status=MemberImport.Status.READ)
        raise
    MemberImport.objects.filter(pk=import_id).update(status=MemberImport.Status.DONE)


def _invite(found: MemberImport, places: list[int]) -> None:
    """These rows, in one transaction: all rows of a list stand in one column, which is written once for them."""
    by = Actor.load(found.created_by, organization=found.organization)
    with changing(found.organization):  # first, as everywhere: whoever confirms the list at this moment waits for no deadlock
        fresh = MemberImport.objects.select_for_update().get(pk=found.pk)
        for row in (fresh.rows[at] for at in places):
            if not row.get("done"):
                _invite_one(row, by=by)
                fresh.done += 1
        fresh.save(update_fields=["rows", "done"])


def _invite_one(row: dict[str, Any], *, by: Actor) -> None:
    row["done"] = True
    try:
        with transaction.atomic():
            made = invite(_group(row, by), by=by, role=_role(row, by), email=row["email"], name=row["name"])
        invitation_mail.queue([made])
    except Refused as refused:
        row["error"] = refused.message
    except NotAllowed as missing:
        row["error"] = f"It needs “{missing.permission.label.lower()}” there."


def _hand_over(import_id: int) -> None:
    try:
        current_app.send_task("orgs.tasks.invite_listed", (import_id,), retry=False)
    except OperationalError:
        MemberImport.objects.filter(pk=import_id).update(status=MemberImport.Status.READ)


def _judged(
    line: Line, *, places: dict[str, list[Group]], roles: dict[str, AnyRole], by: Actor, seen: Counter[str]
) -> dict[str, Any]:
    row: dict[str, Any] = {"line": line.number, "email": line.email.lower(), "name": line.name, "group": None, "error": ""}
    row |= {"path": line.group, "role": line.role, "token": ""}
    groups = places.get(_key(line.group), [])
    role = roles.get(line.role.lower()) if line.role else None
    try:
        row["email"] = clean_email(line.email)
        if seen[line.email.strip().lower()] > 1:
            raise Refused("This address stands in the file more than once.")
        if len(groups) != 1:
            raise Refused(
                "There are several groups of this path." if groups else "There is no such group that you may invite to."
            )
        row["group"] = groups[0].pk
        if line.role and line.role.lower() != "member":
            if role is None:
                raise Refused("There is no such role.")
            if not may_give(role, groups[0], by=by):
                raise Refused("You may not grant this role there.")
            row["token"] = f"role-{role.pk}" if isinstance(role, Role) else role.value
    except Refused as refused:
        row["error"] = refused.message
    return row


def _places(by: Actor) -> dict[str, list[Group]]:
    """Groups the actor may invite to, by their path from the root or with it; "" is its own top group if there is one only."""
    scope = by.scope(Permission.MANAGE_MEMBERS)
    groups = Group.objects.filter(within(scope), unarchived(), organization=by.organization).select_related(ABOVE)
    found: dict[str, list[Group]] = {"": scope if len(scope) == 1 and not scope[0].closed_by else []}
    for group in groups:
        names = [node.name for node in group.path()]
        for path in {_key("/".join(names)), _key("/".join(names[1:])) or _key(names[0])}:
            found.setdefault(path, []).append(group)
    return found


def _roles(by: Actor) -> dict[str, AnyRole]:
    roles: dict[str, AnyRole] = {role.value: role for role in RoleName}
    return {**roles, **{role.name.lower(): role for role in roles_visible_to(by)}}


def _mark_known(rows: list[dict[str, Any]]) -> None:
    """Who is there already, asked once for each group."""
    groups = {row["group"] for row in rows if not row["error"]}
    for group in Group.objects.filter(pk__in=groups):
        here = [row for row in rows if row["group"] == group.pk and not row["error"]]
        known = already([row["email"] for row in here], group)
        for row in here:
            if words := known.get(row["email"]):
                row["error"] = f"{words[0].upper()}{words[1:]}."


def _group(row: dict[str, Any], by: Actor) -> Group:
    group: Group | None = Group.objects.filter(organization=by.organization, pk=row["group"]).select_related(ABOVE).first()
    if group is None:
        raise Refused("The group is gone.")
    return group


def _role(row: dict[str, Any], by: Actor) -> AnyRole | None:
    token = row["token"]
    if token.startswith("role-"):
        role = roles_visible_to(by).filter(pk=token.removeprefix("role-")).first()
        if role is None:
            raise Refused("The role is gone.")
        return role
    return RoleName(token) if token else None


def _key(path: str) -> str:
    """Paths as people write them: spaces around slashes and capitals do not matter."""
    return "/".join(one_line(part).lower() for part in path.split("/") if part.strip())
