"""Tests are compiled by two processes: pytest rewrites their assertions as it imports one file after the other, and a second
one begins at the other end. In a fresh clone that is six seconds of CPU, while a core has nothing to do.

What pytest keeps of a file and where (`_pytest.assertion.rewrite`) is its own affair: tests/test_rewriting.py notices a change.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
from _pytest.assertion import rewrite

from gateway_project.embedded.child import end_with_parent

FILES = "test_*.py"


def begin(config: pytest.Config, folder: Path) -> int | None:
    """Of all files in this folder → the process, to be waited for."""
    if sys.dont_write_bytecode or sys.platform != "linux":
        return None
    if pid := os.fork():
        return pid
    try:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        end_with_parent(signal.SIGTERM)
        compile_until_known(config, sorted(folder.rglob(FILES), reverse=True))
    finally:
        os._exit(0)


def compile_until_known(config: pytest.Config, files: Iterable[Path]) -> list[Path]:
    """→ those compiled. The other process comes towards this one: where it has been, all is known."""
    compiled = []
    for file in files:
        kept = rewrite.get_cache_dir(file) / f"{file.stem}{rewrite.PYC_TAIL}"
        if is_known(file, kept):
            break
        compiled.append(file)
        source, code = rewrite._rewrite_test(file, config)
        if rewrite.try_makedirs(kept.parent):
            rewrite._write_pyc(config.stash[rewrite.assertstate_key], code, source, kept)
    return compiled


def is_known(file: Path, kept: Path) -> bool:
    return rewrite._read_pyc(file, kept) is not None
