"""The shape of the project: what lies at the top, how large things may grow, what must not be in it."""

import ast
import json
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from statistics import median, quantiles

import pytest

ROOT = Path(__file__).resolve().parent.parent
APPS = ("analytics", "billing", "gateway_project", "guardrails", "notifications", "orgs", "proxy")
TOP_LEVEL = {
    *APPS,
    *("manage.py", "pyproject.toml", "README.md", "Makefile", "requirements.lock", "templates", "static", "tests"),
    *(".ci", ".gitignore"),
}
LOCK_FILES = ("requirements.lock", "tests/requirements.lock")
# Lines, where an app has more to explain than others.
LONGEST_READMES = {"proxy": 200, "orgs": 150}
NODE_LOCK_FILES = ("tests/standins/package-lock.json", "tests/campaign/package-lock.json")
CAMPAIGN_LOCK_FILE = "tests/campaign/requirements.lock"
# Somebody else's code: shipped as it came.
VENDORED = ("static/vendor/",)
LEFT_FOR_LATER = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|X" + r"XX)\b")
OUTSIDE_ADDRESS = re.compile(r"https?://|file:|--(extra-)?index-url|--find-links|@ git", re.IGNORECASE)


@cache
def shipped() -> list[Path]:
    """What a clone holds: files that git knows or would add."""
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split("\0")
    return [ROOT / name for name in names if name and (ROOT / name).is_file()]


def sources() -> list[Path]:
    """Python of the project itself: no tests, no migrations."""
    return [
        path for path in shipped() if path.suffix == ".py" and "migrations" not in path.parts and relative(path)[:6] != "tests/"
    ]


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def lines(path: Path) -> int:
    return len(path.read_text().splitlines())


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """Each function's place and length in lines, docstring included, decorators not."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{relative(path)}:{node.name}", (node.end_lineno or node.lineno) - node.lineno + 1


@cache
def all_functions() -> list[tuple[str, int]]:
    return [found for path in sources() for found in functions(path)]


def too_long(found: list[tuple[str, int]], *, limit: int) -> list[tuple[str, int]]:
    return [(name, length) for name, length in found if length > limit]


def test_the_top_level_holds_what_it_may_and_nothing_else() -> None:
    assert {relative(path).split("/")[0] for path in shipped()} == TOP_LEVEL


def test_most_functions_are_short() -> None:
    lengths = [length for _, length in all_functions()]
    assert median(lengths) <= 10
    assert quantiles(lengths, n=10)[-1] <= 32


def test_no_function_is_long() -> None:
    assert too_long(all_functions(), limit=80) == []


def test_views_only_parse_call_and_render() -> None:
    views = [path for path in sources() if path.stem.endswith("views")]
    assert len(views) >= 30
    assert too_long([found for path in views for found in functions(path)], limit=25) == []


def test_the_pipeline_reads_from_top_to_bottom() -> None:
    handle = dict(functions(ROOT / "proxy" / "pipeline.py"))["proxy/pipeline.py:handle"]
    assert handle <= 60


def test_files_are_short() -> None:
    code = [path for path in sources() if lines(path)]
    assert median(lines(path) for path in code) <= 120
    assert [relative(path) for path in code if lines(path) > 500] == []


def test_templates_are_short() -> None:
    templates = [path for path in shipped() if path.suffix == ".html"]
    assert templates
    assert [relative(path) for path in templates if lines(path) > 200] == []


def test_tests_outweigh_the_code_they_test() -> None:
    tests = [path for path in shipped() if path.suffix == ".py" and relative(path)[:6] == "tests/"]
    assert sum(map(lines, tests)) >= sum(map(lines, sources()))


def test_package_markers_are_empty() -> None:
    assert [relative(path) for path in shipped() if path.name == "__init__.py" and path.read_text()] == []


@pytest.mark.parametrize("app", APPS)
def test_every_app_explains_itself(app: str) -> None:
    text = (ROOT / app / "README.md").read_text()
    assert 40 <= len(text.splitlines()) <= LONGEST_READMES.get(app, 120)
    for heading in ("Owns", "Does not own", "Failure"):
        assert re.search(rf"^#+ .*{heading}|\*\*{heading}", text, re.IGNORECASE | re.MULTILINE), (
            f"{app}/README.md lacks: {heading}"
        )


def test_nothing_is_left_for_later_in_the_code() -> None:
    texts = [path for path in shipped() if path.suffix in {".py", ".html", ".js", ".css", ".lua", ".md"}]
    own = [path for path in texts if not relative(path).startswith(VENDORED)]
    assert [relative(path) for path in own if LEFT_FOR_LATER.search(path.read_text())] == []


@pytest.mark.parametrize("name", [*LOCK_FILES, CAMPAIGN_LOCK_FILE, *NODE_LOCK_FILES])
def test_lock_files_name_no_place_to_download_from(name: str) -> None:
    assert OUTSIDE_ADDRESS.findall((ROOT / name).read_text()) == []


@pytest.mark.parametrize("name", [*LOCK_FILES, CAMPAIGN_LOCK_FILE])
def test_every_locked_package_has_one_version_and_a_hash(name: str) -> None:
    text = (ROOT / name).read_text().replace("\\\n", "")
    packages = [line for line in text.splitlines() if line and not line.lstrip().startswith("#")]
    assert len(packages) >= 50
    assert [line for line in packages if "==" not in line or "--hash=sha256:" not in line] == []


@pytest.mark.parametrize("name", NODE_LOCK_FILES)
def test_every_locked_package_of_node_has_a_hash_and_what_is_wanted_one_version(name: str) -> None:
    lock = json.loads((ROOT / name).read_text())["packages"]
    wanted = json.loads((ROOT / name).with_name("package.json").read_text())["dependencies"]
    assert [package for package, what in lock.items() if package and not what.get("integrity", "").startswith("sha512-")] == []
    assert {package: lock[f"node_modules/{package}"]["version"] for package in wanted} == wanted


def test_tests_run_on_the_versions_that_ship() -> None:
    run, test = ({pin.split("==")[0]: pin for pin in pins(name)} for name in LOCK_FILES)
    assert [name for name, pin in run.items() if test.get(name) != pin] == []


def pins(name: str) -> list[str]:
    return re.findall(r"^[a-zA-Z0-9_.\-\[\]]+==[^ ;\\]+", (ROOT / name).read_text(), re.MULTILINE)


@pytest.mark.parametrize("folder", sorted(path.name for path in (ROOT / "static" / "vendor").iterdir() if path.is_dir()))
def test_vendored_code_brings_its_licence(folder: str) -> None:
    names = {path.name.upper() for path in (ROOT / "static" / "vendor" / folder).iterdir()}
    assert any(name.startswith(("LICENSE", "LICENCE", "COPYING")) for name in names)


def test_the_makefile_pins_what_it_installs() -> None:
    text = (ROOT / "Makefile").read_text()
    assert re.search(r"^UV_VERSION := \d+\.\d+\.\d+$", text, re.MULTILINE)
    assert "--require-hashes" in text
