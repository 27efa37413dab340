"""What is there lies in large pages afterwards, unchanged, where the kernel takes part; everywhere else nothing happens."""

from __future__ import annotations

import json
import mmap
import re
import subprocess
import sys
from pathlib import Path

import pytest

from gateway_project.lib import large_pages

ROOT = Path(__file__).resolve().parent.parent.parent
# A heap of some 60 MB, its sum, and what the system says of it before and after; then the same in a process that was forked.
HEAP = """
import json, os, re, zlib
from pathlib import Path
from gateway_project.lib import large_pages

def large():
    return int(re.search(r"AnonHugePages: +(\\d+)", Path("/proc/self/smaps_rollup").read_text())[1]) * 1024

def told():
    before, sum_before = large(), zlib.crc32(b"".join(heap))
    moved = large_pages.use()
    return {"moved": moved, "grown": large() - before, "unchanged": zlib.crc32(b"".join(heap)) == sum_before}

heap = [bytes([number % 251]) * 1000 for number in range(60_000)]
reading, writing = os.pipe()
if not (pid := os.fork()):
    os.write(writing, json.dumps(told()).encode())
    os._exit(0)
os.waitpid(pid, 0)
print(json.dumps([json.loads(os.read(reading, 1000)), told()]))
"""


def kernel_takes_part() -> bool:
    with mmap.mmap(-1, 2 * large_pages.SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        memory.write(b"x" * len(memory))
        try:
            memory.madvise(large_pages.MADV_COLLAPSE)
        except OSError:
            return False
    return True


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_a_heap_moves_and_stays_what_it_was() -> None:
    run = subprocess.run([sys.executable, "-c", HEAP], cwd=ROOT, capture_output=True, text=True, check=True)
    for found in json.loads(run.stdout):
        assert found["unchanged"]
        if kernel_takes_part():
            assert found["moved"] >= found["grown"] > 40 << 20
        else:
            assert found["moved"] == 0


def test_only_private_memory_without_a_file_is_moved() -> None:
    mapped = """\
00400000-00a93000 r-xp 00000000 fe:00 1234    /usr/bin/python3.11
00a93000-00b00000 rw-p 00693000 fe:00 1234    /usr/bin/python3.11
01000000-02000000 rw-p 00000000 00:00 0       [heap]
7f0000000000-7f0000400000 rw-p 00000000 00:00 0
7f0000400000-7f0000500000 rw-p 00000000 00:00 0\x20
7f1000000000-7f1000400000 rw-s 00000000 00:01 77   /dev/zero (deleted)
7f2000000000-7f2000400000 ---p 00000000 00:00 0
7ffc00000000-7ffc00800000 rw-p 00000000 00:00 0    [stack]
"""
    assert [begin for begin, _, _ in large_pages.PRIVATE.findall(mapped)] == ["01000000", "7f0000000000", "7f0000400000"]
    with Path("/proc/self/maps").open() as own:
        assert re.search(large_pages.PRIVATE, own.read())


def test_where_there_is_no_such_thing_nothing_happens(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(large_pages, "Path", lambda _: tmp_path / "no maps")
    assert large_pages.use() == 0
