"""The documentation says what the code does: names are read from the code and compared with those in the READMEs."""

import ast
import itertools
import re
import tomllib
from collections.abc import Callable, Collection, Iterator
from functools import cache
from pathlib import Path

import pytest
from django.urls import Resolver404, get_resolver, resolve

from orgs.permissions import MEMBER, Permission, RoleName, allowed
from proxy import catalogue_file
from proxy.errors import CODES
from proxy.protocols.chat_completions import PATH as CHAT_PATH
from proxy.providers.base import Timeouts
from proxy.providers.registry import PROVIDERS
from tests.test_layout import APPS, LONGEST_READMES, ROOT, shipped, sources

README = (ROOT / "README.md").read_text()
READMES = sorted(path for path in shipped() if path.name == "README.md")
SECTIONS = ("owns", "does not own", "invariants", "time", "failure and retry")
# What reads a variable of the environment: its name is the first text among the arguments, its default the next.
READERS = {"_flag", "_secret", "number"}
ENVIRONMENTS = {"ENV", "variables", "environ"}
ADDRESS = "http://127.0.0.1:8000"

Setting = tuple[str, str]


# --- reading the documentation -----------------------------------------------------------------
def section(heading: str, text: str = README) -> str:
    """From a heading of the README to the next one of its level or above."""
    found = re.search(rf"^(#+) {re.escape(heading)}.*?\n(.*?)(?=^#{{1,2}} |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, f"there is no section {heading!r}"
    return found[2]


def table(heading: str) -> list[list[str]]:
    """The cells of the first table of a section, without its two lines of heading."""
    every = section(heading).splitlines()
    lines = itertools.takewhile(lambda line: line.startswith("|"), itertools.dropwhile(lambda line: line[:1] != "|", every))
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in list(lines)[2:]]


def quoted(text: str) -> set[str]:
    """What stands in backticks, blocks of code left out."""
    return set(re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)))


def snippets(heading: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", section(heading), re.MULTILINE | re.DOTALL)


# --- reading the code --------------------------------------------------------------------------
def nodes_of(path: Path, *, naming: Collection[str]) -> Iterator[ast.AST]:
    """Of a file in which one of these names stands: most are no use to read."""
    text = path.read_text()
    return ast.walk(ast.parse(text)) if any(name in text for name in naming) else iter(())


@cache
def settings_read() -> list[Setting]:
    """Every variable of the environment that the project reads, with its default where that is a plain text."""
    return [setting for path in sources() for setting in settings_of(path)]


def settings_of(path: Path) -> Iterator[Setting]:
    for node in nodes_of(path, naming=READERS | ENVIRONMENTS):
        if isinstance(node, ast.Call) and reads_environment(node.func):
            texts = [text for text in map(text_of, node.args) if text]
            if texts and texts[0].isupper():
                yield texts[0], "".join(texts[1:2])


def reads_environment(function: ast.expr) -> bool:
    if isinstance(function, ast.Name):
        return function.id in READERS
    if not isinstance(function, ast.Attribute) or function.attr != "get":
        return False
    owner = function.value
    return (owner.id if isinstance(owner, ast.Name) else owner.attr if isinstance(owner, ast.Attribute) else "") in ENVIRONMENTS


def text_of(node: ast.expr) -> str:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def named_constants(path: Path) -> set[str]:
    """Names of variables that a module keeps in constants of its own."""
    tree = ast.parse(path.read_text())
    values = [node.value for node in tree.body if isinstance(node, ast.Assign)]
    texts = [leaf.value for value in values for leaf in ast.walk(value) if isinstance(leaf, ast.Constant)]
    return {text for text in texts if isinstance(text, str) and re.fullmatch(r"[A-Z]+(_[A-Z]+)+", text)}


def every_setting() -> set[str]:
    package = ROOT / "gateway_project"
    constants = named_constants(package / "environment.py") | named_constants(package / "embedded" / "options.py")
    return {name for name, _ in settings_read()} | constants


@cache
def codes_raised() -> set[str]:
    """Codes of errors that some statement makes or raises; keys are refused by code, rates by a table."""
    from proxy.refusals import RATES

    by_class = {leaf.__name__: code for code, leaf in CODES.items()}
    found = {rate.error.code for rate in RATES.values()}
    for path in sources():
        for node in nodes_of(path, naming={*by_class, *CODES}):
            made = node.func if isinstance(node, ast.Call) else node.exc if isinstance(node, ast.Raise) else None
            name = made.id if isinstance(made, ast.Name) else made.attr if isinstance(made, ast.Attribute) else ""
            found |= {by_class[name]} if name in by_class else set()
            if path == ROOT / "orgs" / "access.py" and isinstance(node, ast.Constant) and node.value in CODES:
                found.add(str(node.value))
    return found


def headers_sent() -> set[str]:
    names: set[str] = set()
    for module in ("headers", "errors", "attribution", "idempotency", "sessions", "permits"):
        tree = ast.parse((ROOT / "proxy" / f"{module}.py").read_text())
        texts = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
        pattern = r"x-[a-z]+(-[a-z]+)+|anthropic-ratelimit-[a-z-]+|request-id|retry-after|idempotency-key"
        names |= {text for text in texts if re.fullmatch(pattern, text)}
    return names - {"x-accel-buffering"}


def commands() -> set[str]:
    return {path.stem for path in sources() if path.parent.name == "commands" and path.stem != "__init__"}


# --- settings, commands, headers ---------------------------------------------------------------
def test_the_settings_table_is_the_settings_that_are_read() -> None:
    documented = {name for row in table("Settings") for name in quoted(row[0])}
    assert documented == every_setting()
    assert len(documented) >= 20


def test_the_settings_table_gives_the_defaults() -> None:
    shown = {name: row[1] for row in table("Settings") for name in quoted(row[0])}
    plain = {name: default for name, default in settings_read() if default and "://" not in default}
    assert {name: default for name, default in plain.items() if default not in shown[name]} == {}
    assert plain["PORT"] == "8000"


def test_every_command_is_named() -> None:
    named = set(re.findall(r"manage\.py ([a-z_]+)", section("For scripts and monitors")))
    assert commands() <= named
    assert named <= commands() | {"shell", "collectstatic", "createsuperuser"}


def test_every_option_of_a_command_that_is_named_exists() -> None:
    for row in table("For scripts and monitors"):
        options = set(re.findall(r"--[a-z-]+", " ".join(row)))
        for name in re.findall(r"manage\.py ([a-z_]+)", row[0]):
            module = next(path for path in sources() if path.parent.name == "commands" and path.stem == name)
            assert options <= set(re.findall(r'"(--[a-z-]+)"', module.read_text())), name


def test_every_header_is_named() -> None:
    named = {name.split(":")[0] for row in table("Headers") for name in quoted(row[0])}
    assert named == headers_sent()


# --- errors, permissions -----------------------------------------------------------------------
def test_the_error_table_is_the_error_tree() -> None:
    documented = {code: int(row[0]) for row in table("Errors") for code in quoted(row[1])}
    assert documented == {code: leaf.status for code, leaf in CODES.items()}


def test_codes_called_reserved_are_those_that_nothing_raises() -> None:
    reserved = {code for row in table("Errors") for code in quoted(row[1]) if "*reserved*" in row[2]}
    assert reserved == CODES.keys() - codes_raised()
    assert codes_raised()


def test_what_a_refusal_tells_is_named() -> None:
    from proxy.refusals import _detail  # the one place that makes it

    members = set(re.findall(r'"([a-z_]+)":', ast.unparse(function_of(_detail)).replace("'", '"')))
    assert members
    assert members <= quoted(section("Errors"))


def function_of(function: Callable[..., object]) -> ast.FunctionDef:
    tree = ast.parse(Path(function.__code__.co_filename).read_text())
    return next(node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == function.__name__)


def test_the_permissions_table_is_the_matrix() -> None:
    admin = RoleName.ADMIN
    columns = [
        MEMBER,
        *(allowed(admin, granted_level=level, distance=distance) for level in (2, 1) for distance in (0, 1)),
        allowed(admin, granted_level=0, distance=0),
        allowed(RoleName.FINANCE, granted_level=0, distance=0),
        allowed(RoleName.AUDITOR, granted_level=0, distance=0),
    ]
    documented = {name: [bool(cell) for cell in row[2:]] for row in table("Permissions") for name in quoted(row[0])}
    assert documented == {permission.value: [permission in column for column in columns] for permission in Permission}


# --- the first call, the catalogue -------------------------------------------------------------
def test_the_snippets_call_routes_that_exist() -> None:
    text = section("Your first call")
    direct = re.findall(rf"{re.escape(ADDRESS)}(/[a-z0-9/_]+)", "".join(snippets("Your first call", "sh")))
    bases = re.findall(rf'(?:base_url|baseURL)[=:] ?"{re.escape(ADDRESS)}([^"]*)"', text)
    assert direct
    assert len(bases) == 2
    for path in [*direct, *(base + CHAT_PATH for base in bases)]:
        assert "post" in methods(path), path


def methods(path: str) -> set[str]:
    view = resolve(path, urlconf="proxy.urls").func
    return {name for name in ("get", "post", "delete") if hasattr(view.view_class, name)}  # type: ignore[attr-defined]


def test_the_table_of_routes_is_the_proxys_routes() -> None:
    documented = [found.split() for row in table("Your first call") for found in quoted(row[0])]
    assert documented
    called = [(method, path.replace("{name}", "a/model").replace("{id}", "resp_1")) for method, path in documented]
    for method, path in called:
        assert method.lower() in methods(path), path
    resolved = {resolve(path, urlconf="proxy.urls").route for _, path in called}
    assert resolved == {str(route.pattern) for route in get_resolver("proxy.urls").url_patterns}


def test_the_python_snippet_is_python() -> None:
    [snippet] = snippets("Your first call", "python")
    compile(snippet, "README.md", "exec")


def test_probes_that_are_named_are_served() -> None:
    named = {path for row in table("For scripts and monitors") for path in quoted(row[0]) if path.startswith("/")}
    assert named == {f"/{route.pattern}" for route in get_resolver("gateway_project.probes").url_patterns}


def test_pages_that_are_named_exist() -> None:
    paths = {path for path in quoted(README) if re.fullmatch(r"/[a-z]+/[a-z/]*/", path)}
    assert paths
    for path in paths:
        try:
            resolve(path, urlconf="gateway_project.urls")
        except Resolver404:
            pytest.fail(f"README names {path}, which has no route")


def test_the_catalogue_sample_can_be_loaded() -> None:
    [sample] = snippets("Real providers: the catalogue file", "yaml")
    declared, problems = catalogue_file.read(sample)
    assert problems == []
    assert [len(declared.providers), len(declared.models), len(declared.models[0].deployments)] == [4, 2, 2]


def test_the_catalogue_sample_names_every_kind_and_the_default_timeouts() -> None:
    [sample] = snippets("Real providers: the catalogue file", "yaml")
    kinds = re.search(r"kind: openai +# (.*)", sample)
    assert kinds
    assert set(kinds[1].split(", ")) == PROVIDERS.keys()
    model, _ = catalogue_file.read(sample)[0].models
    assert Timeouts(**model.timeout) == Timeouts()


# --- the apps ----------------------------------------------------------------------------------
def test_the_table_of_apps_is_the_import_contract() -> None:
    contract = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"][0]
    layers = [set(layer.split(" | ")) & set(APPS) for layer in contract["layers"]]
    below = {app: set().union(*layers[position + 1 :]) for position, layer in enumerate(layers) for app in layer}
    assert below.keys() | {"gateway_project"} == set(APPS)
    named = re.compile("|".join(sorted(APPS)))
    documented = {re.findall(r"\[(\w+)\]", row[0])[0]: row[2] for row in table("Apps, and who may import whom")}
    assert documented.keys() == set(APPS)
    for app, expected in below.items():
        assert set(named.findall(documented[app])) - {"gateway_project"} == expected, app


@pytest.mark.parametrize("app", APPS)
def test_every_app_has_a_readme_of_a_readable_length(app: str) -> None:
    assert 40 <= len((ROOT / app / "README.md").read_text().splitlines()) <= LONGEST_READMES.get(app, 120)


@pytest.mark.parametrize("app", sorted(set(APPS) - {"gateway_project"}))
def test_every_readme_has_its_sections(app: str) -> None:
    text = (ROOT / app / "README.md").read_text().lower()
    for words in SECTIONS:
        assert re.search(rf"^#+ (.* )?{words}\b|\*\*{words}\b", text, re.MULTILINE), f"{app}/README.md lacks: {words}"
    assert re.search(r"^#+ .*\b(add|one more)\b|^#+ one more", text, re.MULTILINE), (
        f"{app}/README.md does not say how to add one more"
    )


# --- what is named exists ----------------------------------------------------------------------
@pytest.mark.parametrize("readme", READMES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_link_leads_somewhere(readme: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", readme.read_text()):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        linked = (readme.parent / path).resolve() if path else readme
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked), target


def anchors(page: Path) -> set[str]:
    """As code hosts make them: lower case, spaces to hyphens, punctuation gone."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("readme", READMES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_file_that_is_named_exists(readme: Path) -> None:
    folders = (ROOT, readme.parent)
    for name in quoted(readme.read_text()):
        if re.fullmatch(r"[\w./-]+\.(py|lua|lock|toml|html|png)", name) and "/" in name:
            assert any((folder / name).exists() for folder in folders), f"{readme.relative_to(ROOT)} names {name}"


def test_pictures_are_small() -> None:
    pictures = [path for path in shipped() if path.is_relative_to(ROOT / "static" / "img" / "readme")]
    assert {path.name for path in pictures} == {Path(target).name for target in re.findall(r"!\[[^]]+\]\(([^)]+)\)", README)}
    assert [path.name for path in pictures if path.stat().st_size > 250_000] == []


def test_the_table_of_measurements_has_its_place() -> None:
    assert README.count("<!-- bench -->") == README.count("<!-- /bench -->") == 1
    assert README.index("<!-- bench -->") < README.index("<!-- /bench -->")
