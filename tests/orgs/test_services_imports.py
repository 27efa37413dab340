"""Lists of people: judged before anything happens, invited once, however often a run begins."""

import unicodedata
from datetime import timedelta

import pytest
from django.core import mail
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from redis.exceptions import RedisError

from orgs import checks, tasks
from orgs.errors import Refused
from orgs.member_files import Line
from orgs.models import AuditEvent, Group, Invitation, MemberImport, User
from orgs.permissions import Permission, RoleName
from orgs.services import imports
from orgs.services.groups import create_group
from orgs.services.invitations import invite
from orgs.services.members import revoke_role
from orgs.services.roles import create_role
from tests.actors import World
from tests.statements import whole

PATH = "engineering / platform / gateway"


def line(email: str = "ada@example.test", *, group: str = PATH, role: str = "", number: int = 2) -> Line:
    return Line(number, email, "Ada", group, role)


def errors(world: World, *lines: Line, by: str = "sam") -> list[str]:
    return [row["error"] for row in imports.judge(lines, by=world.actor(by))]


@pytest.mark.parametrize("group", [PATH, "Engineering/PLATFORM/gateway", "/engineering/platform/gateway/"])
@pytest.mark.parametrize("role", ["", "member", "Admin", "FINANCE", "watcher"])
def test_paths_and_roles_are_read_as_people_write_them(world: World, group: str, role: str) -> None:
    create_role(world.platform, name="Watcher", permissions=[Permission.VIEW_USAGE], by=world.actor("lena"))
    [row] = imports.judge([line(group=group, role=role)], by=world.actor("sam"))
    assert (row["error"], row["group"]) == ("", world.gateway.pk)
    assert bool(row["token"]) == (role not in ("", "member"))


def test_a_path_is_the_same_however_unicode_writes_it(world: World) -> None:
    cafe = create_group(world.platform, name="Café", by=world.actor("lena"))
    [row] = imports.judge([line(group=unicodedata.normalize("NFD", "engineering/platform/café"))], by=world.actor("sam"))
    assert (row["error"], row["group"]) == ("", cafe.pk)


def test_a_group_below_an_archived_one_takes_nobody(world: World) -> None:
    Group.objects.filter(pk=world.engineering.pk).update(archived_at=timezone.now())
    assert errors(world, line(), line("b@example.test", group="")) == ["There is no such group that you may invite to."] * 2


def test_every_line_says_what_is_wrong_with_it(world: World) -> None:
    invite(world.gateway, email="known@example.test", by=world.actor("sam"))
    assert errors(
        world,
        line("no address"),
        line("twice@example.test"),
        line("Twice@example.test"),
        line("a@example.test", group="engineering / nowhere"),
        line("b@example.test", group="sales"),
        line("c@example.test", role="king"),
        line("d@example.test", group="engineering / platform", role="admin"),
        line("known@example.test"),
        line(world.mia.email),
        line("fine@example.test"),
    ) == [
        "“no address” is no e-mail address.",
        "This address stands in the file more than once.",
        "This address stands in the file more than once.",
        "There is no such group that you may invite to.",
        "There is no such group that you may invite to.",
        "There is no such role.",
        "You may not grant this role there.",
        "Is invited already.",
        "Is a member already.",
        "",
    ]


def test_without_a_group_it_is_ones_own_top_group(world: World) -> None:
    [row] = imports.judge([line(group="")], by=world.actor("sam"))
    assert row["group"] == world.platform.pk
    assert errors(world, line(group=""), by="mia") == ["There is no such group that you may invite to."]


def kept(world: World, *lines: Line) -> MemberImport:
    by = world.actor("sam")
    return imports.keep(imports.judge(lines, by=by), file_name="people.csv", by=by)


def test_nothing_happens_before_it_is_confirmed_and_then_once(world: World) -> None:
    found = kept(world, line(role="finance"), line("no address"))
    imports.run(found.pk)
    assert not Invitation.objects.filter(organization=world.acme).exists()
    found = imports.confirm(found, by=world.actor("sam"))
    assert (found.status, found.done, [row.get("done") for row in found.rows]) == ("done", 1, [True, None])
    [invitation] = Invitation.objects.filter(organization=world.acme).all()
    assert (invitation.email, invitation.group, invitation.role) == ("ada@example.test", world.gateway, RoleName.FINANCE)
    with pytest.raises(Refused, match="confirmed already"):
        imports.confirm(found, by=world.actor("sam"))
    imports.run(found.pk)
    assert Invitation.objects.filter(organization=world.acme).count() == 1
    assert AuditEvent.objects.get(organization=world.acme, action="members.imported").after == {"file": "people.csv", "people": 1}


def test_a_run_that_was_cut_goes_on_where_it_stopped(world: World) -> None:
    found = kept(world, *(line(f"p{number}@example.test") for number in range(4)))
    rows = found.rows
    rows[0]["done"] = rows[1]["done"] = True
    MemberImport.objects.filter(pk=found.pk).update(status="running", rows=rows, done=2)
    tasks.invite_listed(found.pk)
    found.refresh_from_db()
    assert (found.status, found.done) == ("done", 4)
    assert set(Invitation.objects.filter(organization=world.acme).values_list("email", flat=True)) == {
        "p2@example.test",
        "p3@example.test",
    }


def test_a_run_has_the_rights_of_its_time(world: World) -> None:
    found = kept(world, line())
    MemberImport.objects.filter(pk=found.pk).update(status="queued")
    revoke_role(world.actor("sam").grants[0], by=world.actor("lena"))
    imports.run(found.pk)
    found.refresh_from_db()
    assert found.status == "done"
    assert "manage members" in found.rows[0]["error"]
    assert not Invitation.objects.filter(organization=world.acme).exists()


def test_a_long_list_is_left_to_the_background_worker(world: World) -> None:
    found = kept(world, *(line(f"p{number}@example.test") for number in range(imports.AT_ONCE + 1)))
    assert imports.confirm(found, by=world.actor("sam")).status == "queued"
    assert not Invitation.objects.filter(organization=world.acme).exists()


def test_lists_of_long_ago_are_forgotten(world: World) -> None:
    old = kept(world, line())
    MemberImport.objects.filter(pk=old.pk).update(created_at=timezone.now() - timedelta(days=imports.KEPT_DAYS, hours=1))
    new = kept(world, line())
    assert list(MemberImport.objects.filter(organization=world.acme)) == [new]


def test_the_worker_sends_the_mails(world: World) -> None:
    made = [invite(world.gateway, email=f"p{number}@example.test", by=world.actor("sam")) for number in range(2)]
    assert tasks.send_invitations([*(one.pk for one in made), 0]) == 2
    assert [message.to for message in mail.outbox] == [["p0@example.test"], ["p1@example.test"]]


def test_the_organisation_is_held_before_the_list_as_whoever_confirms_it_does(world: World) -> None:
    kept = imports.keep(imports.judge([line()], by=world.actor("sam")), file_name="a.csv", by=world.actor("sam"))
    MemberImport.objects.filter(pk=kept.pk).update(status=MemberImport.Status.QUEUED)
    with CaptureQueriesContext(connection) as asked:
        imports.run(kept.pk)
    locks = [sql for sql in whole(asked) if " FOR " in sql and "UPDATE" in sql]
    assert [sql.split("FROM ")[1].split()[0] for sql in locks][:2] == ['"orgs_organization"', '"orgs_memberimport"']


def test_a_run_that_could_not_go_on_is_confirmed_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    people = [line(), line("alan@example.test", number=3)]
    kept = imports.keep(imports.judge(people, by=world.actor("sam")), file_name="a.csv", by=world.actor("sam"))

    def away(group: Group, *, user: User | None) -> None:
        raise RedisError("away")

    with monkeypatch.context() as patched:
        patched.setattr(checks, "_seat_checks", [away])
        with pytest.raises(RedisError):
            imports.confirm(kept, by=world.actor("sam"))
    assert MemberImport.objects.get(pk=kept.pk).status == MemberImport.Status.READ
    assert imports.confirm(kept, by=world.actor("sam")).status == MemberImport.Status.DONE
    assert Invitation.objects.filter(organization=world.acme).count() == 2
