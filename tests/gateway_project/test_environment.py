import os
import stat
from pathlib import Path

import pytest
from django.test import override_settings
from hypothesis import given
from hypothesis import strategies as st

from gateway_project import environment
from gateway_project.lib import crypto

NAMES = st.from_regex(r"[A-Z][A-Z0-9_]{0,20}", fullmatch=True)
VALUES = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), max_size=60)


def test_the_state_folder_is_named_by_the_environment(tmp_path: Path) -> None:
    assert environment.home({"GATEHOUSE_HOME": str(tmp_path)}) == tmp_path


@pytest.mark.parametrize("variables", [{}, {"GATEHOUSE_HOME": ""}])
def test_without_a_name_the_state_lies_beside_manage_py(variables: dict[str, str]) -> None:
    home = environment.home(variables)
    assert home.name == ".gatehouse"
    assert (home.parent / "manage.py").is_file()


def test_a_relative_state_folder_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert environment.home({"GATEHOUSE_HOME": "state"}) == tmp_path / "state"


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    values = {"DATABASE_URL": "postgresql://u:p@%2Ftmp%2Fs/d?a=b", "PORT": "8000"}
    environment.write_file(tmp_path, values)
    assert environment.read_file(tmp_path) == values


@given(values=st.dictionaries(NAMES, VALUES, max_size=8))
def test_any_value_survives_the_file(tmp_path_factory: pytest.TempPathFactory, values: dict[str, str]) -> None:
    folder = tmp_path_factory.mktemp("environment")
    environment.write_file(folder, values)
    assert environment.read_file(folder) == values


def test_only_the_owner_can_read_the_file(tmp_path: Path) -> None:
    environment.write_file(tmp_path / "new", {"SECRET_KEY": "s"})
    assert stat.S_IMODE((tmp_path / "new" / "environment").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700


def test_the_file_is_replaced_and_nothing_else_stays_behind(tmp_path: Path) -> None:
    environment.write_file(tmp_path, {"A": "1", "B": "2"})
    environment.write_file(tmp_path, {"A": "3"})
    assert environment.read_file(tmp_path) == {"A": "3"}
    assert os.listdir(tmp_path) == ["environment"]


def test_comments_and_empty_lines_are_skipped(tmp_path: Path) -> None:
    (tmp_path / "environment").write_text("# A=1\n\nnot a pair\n B = 2 \n")
    assert environment.read_file(tmp_path) == {"B": "2"}


def test_a_missing_file_or_folder_is_empty(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert environment.read_file(tmp_path) == {}
    assert environment.read_file(tmp_path / "absent") == {}
    assert environment.read_file(tmp_path / "file") == {}


def test_the_process_environment_wins_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environment.write_file(tmp_path, {"PORT": "8000", "SANDBOX_URL": "http://from.file"})
    monkeypatch.setenv("GATEHOUSE_HOME", str(tmp_path))
    monkeypatch.setenv("PORT", "9000")
    monkeypatch.delenv("SANDBOX_URL", raising=False)
    loaded = environment.load()
    assert loaded["PORT"] == "9000"
    assert loaded["SANDBOX_URL"] == "http://from.file"


def test_generated_secrets_are_complete_random_and_usable() -> None:
    first, second = environment.generate_secrets(), environment.generate_secrets()
    assert set(first) == set(environment.GENERATED)
    assert not set(first.values()) & set(second.values())
    assert len(first["SECRET_KEY"]) >= 50
    with override_settings(GATEHOUSE_KEYS=first["GATEHOUSE_KEYS"]):
        assert crypto.decrypt(crypto.encrypt("a provider's key", bound_to="row 1"), bound_to="row 1") == "a provider's key"
