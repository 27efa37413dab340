"""The benchmark's table, as Markdown."""

from __future__ import annotations

from importlib.metadata import version

from gateway_project.bench.figures import Figure

VERSIONS = ("django", "uvicorn", "httptools", "redis", "psycopg")


def render(rows: list[Figure], *, machine: str) -> str:
    lines = [machine, "  ".join(f"{name} {version(name)}" for name in VERSIONS), ""]
    lines += ["| figure | median | runs | first milestone | goal |", "|---|---|---|---|---|"]
    lines += [
        f"| {row.name} | {shown(row.median)} {row.unit} | {', '.join(map(shown, row.values))} | {row.milestone} | {row.goal} |"
        for row in rows
    ]
    return "\n".join(lines)


def shown(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:,.1f}" if abs(value) >= 10 else f"{value:.2f}"
