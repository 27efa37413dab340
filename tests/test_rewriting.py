"""What the second process compiles is what pytest reads, and it stops where the first one has been."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import pytest
from _pytest.assertion import rewrite

from tests.rewriting import begin, compile_until_known, is_known

BODY = "def test_two():\n    two = 2\n    assert two == 3\n"


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    found = [tmp_path / f"test_{letter}.py" for letter in "abc"]
    for file in found:
        file.write_text(BODY)
    return found


def kept(file: Path) -> Path:
    return rewrite.get_cache_dir(file) / f"{file.stem}{rewrite.PYC_TAIL}"


@pytest.fixture
def keeps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)


def test_pytest_reads_what_was_compiled(pytestconfig: pytest.Config, files: list[Path], keeps: None) -> None:
    assert compile_until_known(pytestconfig, files) == files
    hook = rewrite.AssertionRewritingHook(pytestconfig)
    before = kept(files[0]).stat().st_mtime_ns
    spec = importlib.util.spec_from_file_location("test_a", files[0], loader=hook)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    hook.exec_module(module)
    with pytest.raises(AssertionError, match="assert 2 == 3"):
        module.test_two()
    assert kept(files[0]).stat().st_mtime_ns == before


def test_it_stops_at_what_is_known(pytestconfig: pytest.Config, files: list[Path]) -> None:
    compile_until_known(pytestconfig, files[1:2])
    assert compile_until_known(pytestconfig, reversed(files)) == files[2:]
    assert not is_known(files[0], kept(files[0]))


def test_a_file_that_was_changed_is_compiled_anew(pytestconfig: pytest.Config, files: list[Path]) -> None:
    compile_until_known(pytestconfig, files)
    files[0].write_text(BODY.replace("3", "4"))
    assert compile_until_known(pytestconfig, files) == files[:1]


def test_it_is_another_process_that_does_it(pytestconfig: pytest.Config, files: list[Path], keeps: None) -> None:
    pid = begin(pytestconfig, files[0].parent)
    if sys.platform == "linux":
        assert pid is not None
        assert os.waitpid(pid, 0)[1] == 0
        assert all(is_known(file, kept(file)) for file in files)


def test_where_nothing_may_be_kept_nothing_is_compiled(
    pytestconfig: pytest.Config, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    assert begin(pytestconfig, files[0].parent) is None
