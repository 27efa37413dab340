"""What a process has cost so far, read from the operating system (Linux: /proc)."""

from __future__ import annotations

import os
import platform
from pathlib import Path


def cpu_seconds(pid: int) -> float:
    """User and system time of the process and its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_mb(pid: int) -> float:
    """Resident memory."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return float("nan")


def pinned() -> tuple[str, str]:
    """Processors for all others and for the measured process, as taskset takes them; empty where there is only one."""
    if not hasattr(os, "sched_getaffinity"):
        return "", ""
    first, *rest = sorted(os.sched_getaffinity(0))
    return (",".join(map(str, rest)), str(first)) if rest else ("", "")


def stay_off_the_measured_processor() -> None:
    others, _ = pinned()
    if others:
        os.sched_setaffinity(0, {int(number) for number in others.split(",")})


def machine() -> str:
    """One line: system, processors, Python."""
    names = [line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    processors = f"{len(names) or os.cpu_count()} × {names[0] if names else platform.machine()}"
    return f"{platform.system()} {platform.release()}, {processors}, Python {platform.python_version()}"


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).exists() else []
