"""Loading the catalogue: all of it or nothing, and nothing twice."""

import io
import json
from datetime import date
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from billing import prices
from billing.models import PriceVersion
from gateway_project.lib import crypto, redis
from orgs import epoch
from orgs.models import Organization
from proxy import catalogue
from proxy.catalogue_file import BadCatalogue
from proxy.models import Deployment, Model, Provider
from proxy.sandbox import catalogue as sandbox

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("empty_catalogue")]

FILE = """\
providers:
  - {name: main, kind: openai, api_key_env: OPENAI_API_KEY}
  - {name: spare, kind: openai-compatible, base_url: "https://spare.example/v1", api_key: sk-spare-secret}
models:
  - name: gpt-mini
    context_window: 400000
    capabilities: [tools, vision]
    retires_on: 2027-02-26
    price: {input: 0.25, cached_input: 0.025, output: 2.0}
    timeout: {connect: 5}
    deployments:
      - {provider: main, model: gpt-5-mini-2025-08-07}
      - {provider: spare, model: mini, order: 2}
"""


def outcomes(report: catalogue.Report) -> list[tuple[str, str, str]]:
    return [(change.thing, change.name, change.outcome) for change in report.changes]


def changes(report: catalogue.Report) -> list[tuple[str, str, str]]:
    return [change for change in outcomes(report) if change[2] != "unchanged"]


def problems(text: str) -> list[str]:
    with pytest.raises(BadCatalogue) as caught:
        catalogue.load(text)
    return [str(problem) for problem in caught.value.problems]


def price_now(name: str) -> Any:
    return prices.price_for([f"model:{name}"], at=timezone.now())


def test_a_first_load_creates_what_the_file_declares() -> None:
    assert outcomes(catalogue.load(FILE)) == [
        ("provider", "main", "created"),
        ("provider", "spare", "created"),
        ("model", "gpt-mini", "created"),
        ("deployment", "gpt-mini by main/gpt-5-mini-2025-08-07", "created"),
        ("deployment", "gpt-mini by spare/mini", "created"),
        ("price", "gpt-mini", "created"),
    ]
    mini = Model.objects.get(name="gpt-mini")
    assert (mini.kind, mini.context_window, mini.timeout) == ("chat", 400_000, {"connect": 5.0})
    assert (mini.capabilities, mini.retires_on, mini.deprecated_on) == (["tools", "vision"], date(2027, 2, 26), None)
    assert [(entry.provider.name, entry.order) for entry in mini.deployments.all()] == [("main", 1), ("spare", 2)]
    assert price_now("gpt-mini").rates.cache_read == 25_000_000


def test_a_second_load_changes_nothing() -> None:
    catalogue.load(FILE)
    before = list(Provider.objects.values()), list(Model.objects.values()), list(PriceVersion.objects.values())
    again = catalogue.load(FILE)
    assert not again.changed
    assert again.counts() == {"unchanged": 6}
    assert before == (list(Provider.objects.values()), list(Model.objects.values()), list(PriceVersion.objects.values()))


@pytest.mark.parametrize(
    ("old", "new", "change"),
    [
        ("OPENAI_API_KEY", "OTHER_KEY", ("provider", "main", "changed")),
        ("sk-spare-secret", "sk-other", ("provider", "spare", "changed")),
        ("connect: 5", "connect: 6", ("model", "gpt-mini", "changed")),
        ("[tools, vision]", "[tools]", ("model", "gpt-mini", "changed")),
        ("    retires_on: 2027-02-26\n", "", ("model", "gpt-mini", "changed")),
        ("order: 2", "order: 3", ("deployment", "gpt-mini by spare/mini", "changed")),
        ("order: 2", "order: 2, rpm: 60, tpm: 90000, zdr: true", ("deployment", "gpt-mini by spare/mini", "changed")),
        ("    timeout:", "    strategy: latency\n    timeout:", ("model", "gpt-mini", "changed")),
        ("output: 2.0", "output: 2.5", ("price", "gpt-mini", "changed")),
        ("      - {provider: spare, model: mini, order: 2}\n", "", ("deployment", "gpt-mini by spare/mini", "removed")),
    ],
)
def test_a_change_is_reported_and_is_the_only_one(old: str, new: str, change: tuple[str, str, str]) -> None:
    catalogue.load(FILE)
    assert changes(catalogue.load(FILE.replace(old, new))) == [change]
    assert not catalogue.load(FILE.replace(old, new)).changed


def other_model(name: str, **members: str) -> str:
    lines = [f"{member}: {value}" for member, value in members.items()]
    return "\n    ".join([f"  - name: {name}", *lines, f"deployments: [{{provider: main, model: {name}}}]"]) + "\n"


def test_models_may_fall_back_to_each_other_whichever_is_declared_first() -> None:
    both = FILE + other_model("large", fallbacks="[gpt-mini]")
    catalogue.load(both.replace("    timeout:", "    fallbacks: [large]\n    timeout:"))
    assert dict(Model.objects.values_list("name", "fallbacks")) == {"gpt-mini": ["large"], "large": ["gpt-mini"]}


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        (other_model("m", fallbacks="[nowhere]"), "'nowhere', which is declared neither here nor before"),
        (other_model("m", fallbacks="[GPT-mini]"), "'GPT-mini', which is declared neither here nor before"),
        (other_model("m", fallbacks="[e]") + other_model("e", kind="embedding"), "'e', a model of kind embedding"),
    ],
)
def test_a_model_falls_back_only_to_what_is_there_and_of_its_kind(more: str, reason: str) -> None:
    assert problems(FILE + more) == [f"line 14: model 'm' cannot fall back to {reason}"]
    assert not Model.objects.exists()


def test_no_model_is_declared_that_its_provider_cannot_be_asked_for() -> None:
    account = "providers: [{name: films, kind: minimax%s}]\n"
    model = "models: [{name: film, kind: video, price: {second: 1}, deployments: [{provider: films, model: film}]}]\n"
    told = "model 'film' is one for video, which provider 'films' is not asked for"
    assert problems(account % "" + model) == [f"line 2: {told}"]
    catalogue.load(account % ", options: {protocols: [videos]}" + model)
    assert problems(account % "" + model) == [f"line 2: {told}"]
    catalogue.load(model)


def test_a_changed_price_appends_a_version_and_keeps_the_old() -> None:
    catalogue.load(FILE)
    before = timezone.now()
    catalogue.load(FILE.replace("output: 2.0", "output: 3"))
    old = prices.price_for(["model:gpt-mini"], at=before)
    assert old is not None
    assert (old.rates.output, price_now("gpt-mini").rates.output) == (2_000_000_000, 3_000_000_000)
    assert PriceVersion.objects.filter(sku="model:gpt-mini").count() == 2


def test_a_price_left_out_falls_back_to_the_list() -> None:
    catalogue.load(FILE)
    without = FILE.replace("    price: {input: 0.25, cached_input: 0.025, output: 2.0}\n", "")
    report = catalogue.load(without)
    assert changes(report) == [("price", "gpt-mini", "withdrawn")]
    assert price_now("gpt-mini") is None
    listed = prices.skus_for(model="gpt-mini", kind="openai", upstream_model="gpt-5-mini-2025-08-07")
    found = prices.price_for(listed, at=timezone.now())
    assert found is not None
    assert found.rates.output == 2_000_000_000
    assert report.unpriced == ["gpt-mini (openai-compatible/mini)"]


def test_a_key_in_the_file_is_kept_encrypted_and_bound_to_its_provider() -> None:
    catalogue.load(FILE)
    spare = Provider.objects.get(name="spare")
    assert "sk-spare-secret" not in str(Provider.objects.filter(name="spare").values())
    assert crypto.decrypt(spare.api_key_encrypted, bound_to="proxy_provider|spare|api_key") == "sk-spare-secret"
    with pytest.raises(crypto.CannotDecrypt):
        crypto.decrypt(spare.api_key_encrypted, bound_to="proxy_provider|main|api_key")


def test_a_variable_takes_the_place_of_a_stored_key_and_back() -> None:
    catalogue.load(FILE)
    catalogue.load(FILE.replace("api_key: sk-spare-secret", "api_key_env: SPARE_KEY"))
    spare = Provider.objects.get(name="spare")
    assert (spare.api_key_env, spare.api_key_encrypted) == ("SPARE_KEY", "")
    catalogue.load(FILE)
    spare.refresh_from_db()
    assert spare.api_key_env == ""
    assert spare.api_key_encrypted


def test_a_file_without_a_credential_leaves_the_stored_one() -> None:
    catalogue.load(FILE)
    before = Provider.objects.get(name="spare").api_key_encrypted
    assert not catalogue.load(FILE.replace(", api_key: sk-spare-secret", "")).changed
    assert Provider.objects.get(name="spare").api_key_encrypted == before


def test_nothing_is_loaded_where_anything_is_wrong() -> None:
    wrong = FILE.replace("output: 2.0", "output: -2").replace("kind: openai,", "kind: openai, colour: blue,")
    wrong = wrong.replace("provider: spare", "provider: nowhere")
    found = problems(wrong)
    assert [line.split(":")[0] for line in found] == ["line 2", "line 9", "line 13"]
    assert "unknown key 'colour'" in found[0]
    assert "output: -2 is negative" in found[1]
    assert found[2] == "line 13: provider 'nowhere' is declared neither here nor before"
    assert not Provider.objects.exists()
    assert not Model.objects.exists()


def test_a_faulty_provider_is_not_reported_as_missing_too() -> None:
    assert len(problems(FILE.replace("kind: openai,", "kind: opnai,"))) == 1


def test_a_provider_declared_before_may_be_named() -> None:
    catalogue.load(FILE)
    later = "models:\n  - {name: other, price: {input: 1, output: 1}, deployments: [{provider: main, model: x}]}\n"
    assert changes(catalogue.load(later)) == [
        ("model", "other", "created"),
        ("deployment", "other by main/x", "created"),
        ("price", "other", "created"),
    ]
    assert Deployment.objects.count() == 3


def test_a_model_cannot_differ_from_another_by_case_alone() -> None:
    catalogue.load(FILE)
    assert problems(FILE.replace("name: gpt-mini", "name: GPT-mini")) == ["line 5: model 'GPT-mini' exists as 'gpt-mini'"]


def test_a_dry_run_tells_the_same_and_stores_nothing(django_capture_on_commit_callbacks: Any) -> None:
    with django_capture_on_commit_callbacks() as announcements:
        report = catalogue.load(FILE, dry_run=True)
    assert report.counts() == {"created": 6}
    assert announcements == []
    assert not Provider.objects.exists()
    assert not PriceVersion.objects.exists()


def test_a_change_reaches_running_workers_and_an_unchanged_file_does_not(django_capture_on_commit_callbacks: Any) -> None:
    organization = Organization.objects.create(name="Acme", slug=f"acme-{uuid4().hex[:12]}")
    epochs = [epoch.keys(epoch.CATALOGUE)[0], epoch.keys(organization.id)[0]]
    before = redis.client().mget(epochs)
    with django_capture_on_commit_callbacks(execute=True):
        catalogue.load(FILE)
    loaded = redis.client().mget(epochs)
    assert all(old != new for old, new in zip(before, loaded, strict=True))
    with django_capture_on_commit_callbacks(execute=True):
        catalogue.load(FILE)
    assert redis.client().mget(epochs) == loaded


def test_the_sandbox_is_declared_with_its_prices() -> None:
    report = catalogue.load(catalogue.sandbox_declaration())
    assert report.unpriced == []
    assert set(Model.objects.values_list("name", flat=True)) == sandbox.MODELS.keys()
    standard = price_now("sandbox-standard").rates
    assert (standard.input, standard.cache_read, standard.output) == (500_000_000, 50_000_000, 1_500_000_000)
    assert set(Deployment.objects.values_list("zdr", flat=True)) == {True}, "it runs here and retains nothing"
    assert not catalogue.load(catalogue.sandbox_declaration()).changed


def run(path: Path, *options: str) -> str:
    out = io.StringIO()
    call_command("catalogue", "load", str(path), *options, stdout=out)
    return out.getvalue()


def test_the_command_prints_what_changed_and_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-this-shell")
    path = tmp_path / "catalogue.yaml"
    path.write_text(FILE)
    first = run(path)
    assert "model gpt-mini: created" in first
    assert "sk-spare-secret" not in first
    assert run(path) == "Catalogue: 6 unchanged.\n"
    assert run(path, "--dry-run") == "Would be: 6 unchanged.\n"


def test_the_command_says_which_credential_this_shell_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    path = tmp_path / "catalogue.yaml"
    path.write_text(FILE)
    assert "provider main: OPENAI_API_KEY is not set here; the web processes need it" in run(path)


def test_the_command_reports_as_json(tmp_path: Path) -> None:
    path = tmp_path / "catalogue.yaml"
    path.write_text(FILE)
    report = json.loads(run(path, "--json"))
    assert report["counts"] == {"created": 6}
    assert report["changes"][0] == {"thing": "provider", "name": "main", "outcome": "created"}


def test_the_command_names_file_line_and_reason_and_fails(tmp_path: Path) -> None:
    path = tmp_path / "catalogue.yaml"
    path.write_text(FILE.replace("0.25", "-1"))
    with pytest.raises(CommandError, match=r"catalogue\.yaml:9: input: -1 is negative\nNothing was loaded\."):
        run(path)


def test_the_command_reports_problems_as_json_too(tmp_path: Path) -> None:
    path = tmp_path / "catalogue.yaml"
    path.write_text(FILE.replace("0.25", "-1"))
    out = io.StringIO()
    with pytest.raises(CommandError):
        call_command("catalogue", "load", str(path), "--json", stdout=out)
    assert json.loads(out.getvalue()) == {"problems": [{"line": 9, "reason": "input: -1 is negative"}]}


@pytest.mark.parametrize(("content", "reason"), [(None, "cannot be read"), (b"\xff\xfe", "is not UTF-8 text")])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None, reason: str) -> None:
    path = tmp_path / "catalogue.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CommandError, match=reason):
        run(path)
