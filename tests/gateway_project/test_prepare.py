import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.core.management import call_command
from django.db import connection
from django.test import override_settings

from gateway_project.embedded import prepare


@pytest.fixture
def folders(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """Source and target of a collection that concerns this test only."""
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    (source / "page.css").write_text("body { background: url(dot.svg) }")
    (source / "dot.svg").write_text("<svg/>")
    with override_settings(
        STATICFILES_DIRS=[source],
        STATICFILES_FINDERS=["django.contrib.staticfiles.finders.FileSystemFinder"],
        STATIC_ROOT=target,
    ):
        yield source, target


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_static_files_are_collected_under_names_that_change_with_their_content(folders: tuple[Path, Path]) -> None:
    _, target = folders
    prepare.collect_static()
    assert {"page.css", "dot.svg", "staticfiles.json", prepare.STAMP} < names(target)
    assert len([name for name in names(target) if name.endswith(".css")]) == 2


def test_nothing_is_collected_again_while_nothing_changed(folders: tuple[Path, Path]) -> None:
    _, target = folders
    prepare.collect_static()
    (target / "page.css").unlink()
    prepare.collect_static()
    assert "page.css" not in names(target)


def test_a_changed_file_is_collected_again_and_a_removed_one_disappears(folders: tuple[Path, Path]) -> None:
    source, target = folders
    prepare.collect_static()
    (source / "page.css").write_text("body { color: red }")
    (source / "dot.svg").unlink()
    prepare.collect_static()
    assert (target / "page.css").read_text() == "body { color: red }"
    assert "dot.svg" not in names(target)


def test_an_interrupted_collection_is_done_again(folders: tuple[Path, Path]) -> None:
    _, target = folders
    prepare.collect_static()
    (target / prepare.STAMP).unlink()
    (target / "page.css").unlink()
    prepare.collect_static()
    assert "page.css" in names(target)


def test_the_signature_sees_content_changes_of_equal_length(folders: tuple[Path, Path]) -> None:
    source, _ = folders
    before = prepare.static_signature()
    (source / "dot.svg").write_text("<SVG/>")
    os.utime(source / "dot.svg", ns=(1, 1))
    assert prepare.static_signature() != before


def test_a_step_that_took_no_time_is_not_mentioned(capsys: pytest.CaptureFixture[str]) -> None:
    prepare.timed("nothing", lambda: None)
    assert capsys.readouterr().out == ""


@pytest.mark.django_db
def test_running_servers_pass_the_check() -> None:
    prepare.check_servers()


@pytest.mark.django_db
@pytest.mark.parametrize("url", ["redis://127.0.0.1:1/0", "unix:///nonexistent/valkey.sock", "no address at all"])
def test_a_redis_that_is_not_there_is_named_in_one_sentence(url: str) -> None:
    with (
        override_settings(REDIS_URL=url),
        pytest.raises(SystemExit, match=r"^Redis or Valkey \(REDIS_URL\) cannot be reached: [^\n]+$"),
    ):
        prepare.check_servers()


@pytest.mark.django_db
def test_the_schema_is_up_to_date_after_migrating() -> None:
    prepare.migrate()
    call_command("migrate", check_unapplied=True, verbosity=0)
    with connection.cursor() as cursor:
        assert "django_migrations" in connection.introspection.table_names(cursor)
