import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway_project.embedded import places
from gateway_project.embedded.errors import StartError
from gateway_project.embedded.places import Account

SOMEBODY = Account(uid=65534, gid=65534, switch=True)


@pytest.fixture
def home() -> Iterator[Path]:
    """Not below pytest's own 0700 folder: as root, the servers' account has to get through."""
    folder = Path(tempfile.mkdtemp(prefix="gatehouse-places-"))
    folder.chmod(0o711)
    yield folder / "home"
    shutil.rmtree(folder)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_servers_live_below_the_state_folder_in_private_folders(home: Path) -> None:
    place = places.choose(home)
    assert place.data == home / "servers"
    assert place.notes == []
    for folder in (place.data, place.sockets, place.make("valkey")):
        assert mode(folder) == 0o700
        assert folder.stat().st_uid == place.account.uid


def test_nobody_but_root_and_the_servers_account_can_list_the_state_folder(home: Path) -> None:
    places.choose(home)
    assert mode(home) == (0o711 if os.geteuid() == 0 else 0o700)


def test_root_hands_the_servers_to_an_unprivileged_account(home: Path) -> None:
    account = places.choose(home).account
    assert account.uid != 0
    assert account.switch == (os.geteuid() == 0)


def test_the_account_stays_the_one_that_owns_the_existing_files(home: Path) -> None:
    first = places.choose(home)
    assert places.choose(home).account == first.account


def test_a_closed_state_folder_is_never_opened_and_the_other_place_is_named(home: Path, tmp_path: Path) -> None:
    home.mkdir(mode=0o700)
    fallback = home.parent / "fallback"
    place = places.choose(home, fallback=fallback)
    assert mode(home) == 0o700
    assert place.account.may_enter(place.data.parent)
    if place.account.switch:
        assert place.data.parent == fallback
        assert str(place.data) in place.notes[0]
        assert places.choose(home, fallback=fallback).data == place.data
    else:
        assert place.data == home / "servers"


def test_data_that_became_unreachable_is_an_error_not_a_fresh_start(home: Path) -> None:
    place = places.choose(home)
    home.chmod(0o700)
    if place.account.switch:
        with pytest.raises(StartError, match="can no longer enter"):
            places.choose(home)
    else:
        assert places.choose(home).data == place.data


def test_sockets_of_a_deep_state_folder_go_to_a_short_private_one(home: Path) -> None:
    deep = home / ("d" * 120)
    home.mkdir(mode=0o711)
    place = places.choose(deep)
    try:
        assert len(os.fsencode(place.sockets / ".s.PGSQL.5432")) < 104
        assert mode(place.sockets) == 0o700
        assert str(place.sockets) in place.notes[0]
        assert places.choose(deep).sockets == place.sockets
    finally:
        place.sockets.rmdir()


def test_a_folder_of_somebody_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "sockets").mkdir()
    with pytest.raises(StartError, match="belongs to another account"):
        places.make_private(tmp_path / "sockets", SOMEBODY)


def test_a_link_in_the_place_of_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "target")
    us = Account(uid=os.geteuid(), gid=os.getegid(), switch=False)
    with pytest.raises(StartError, match="belongs to another account"):
        places.make_private(tmp_path / "link", us)


def test_a_folder_left_too_open_is_closed_again(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir(mode=0o755)
    us = Account(uid=os.geteuid(), gid=os.getegid(), switch=False)
    assert mode(places.make_private(tmp_path / "data", us)) == 0o700


def test_a_state_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StartError, match=r"file/home cannot be written .*GATEHOUSE_HOME"):
        places.make_home(tmp_path / "file" / "home")


@pytest.mark.parametrize(("bits", "enters"), [(0o700, False), (0o710, False), (0o711, True), (0o755, True), (0o744, False)])
def test_a_stranger_enters_only_what_others_may_enter(home: Path, bits: int, enters: bool) -> None:
    home.mkdir()
    home.chmod(bits)
    assert SOMEBODY.may_enter(home) == enters
    assert SOMEBODY.may_enter(home / "not" / "there" / "yet") == enters


def test_the_owner_is_judged_by_the_owners_bits(home: Path) -> None:
    home.mkdir(mode=0o700)
    status = home.stat()
    assert Account(uid=status.st_uid, gid=status.st_gid, switch=True).may_enter(home)
    home.chmod(0o077)
    assert not Account(uid=status.st_uid, gid=status.st_gid, switch=True).may_enter(home)


def test_programs_are_used_in_place_where_they_can_be_run(home: Path) -> None:
    programs = make_programs(home.parent, bits=0o755)
    place = places.choose(home)
    assert places.reachable(programs, program="server", place=place) == programs


def test_programs_behind_a_closed_folder_are_copied_and_that_is_said(home: Path) -> None:
    programs = make_programs(home.parent / "closed", bits=0o700)
    place = places.choose(home)
    found = places.reachable(programs, program="server", place=place)
    if place.account.switch:
        assert found != programs
        assert (found / "server").read_text() == "program"
        assert place.account.may_run(found / "server")
        assert str(found) in place.notes[0]
    else:
        assert found == programs


def test_a_new_version_of_the_programs_is_copied_again(home: Path) -> None:
    programs = make_programs(home.parent / "closed", bits=0o700)
    place = places.choose(home)
    places.reachable(programs, program="server", place=place)
    (programs / "server").write_text("newer program")
    os.utime(programs / "server", (1, 1))
    assert (places.reachable(programs, program="server", place=place) / "server").read_text() == "newer program"


def make_programs(parent: Path, *, bits: int) -> Path:
    folder = parent / "programs"
    folder.mkdir(parents=True)
    (folder / "server").write_text("program")
    (folder / "server").chmod(0o755)
    folder.chmod(0o755)
    parent.chmod(bits)
    return folder
