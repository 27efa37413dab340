"""The catalogue file: what it declares, and the line and reason of everything wrong with it."""

from datetime import date
from decimal import Decimal

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from billing.pricing import Rates, Tier
from proxy import catalogue_file
from proxy.catalogue_file import BadCatalogue, Problem, read

GOOD = """\
providers:
  - {name: openai-main, kind: openai, base_url: "https://api.example/v1/", api_key_env: OPENAI_API_KEY, options: {}}
  - name: local
    kind: ollama
    options: {region: eu, retries: 2, headers: {x-team: [a, b]}, dated: 2026-01-02}
models:
  - name: gpt-5-mini            # what callers ask for
    kind: chat
    context_window: 400000
    max_output_tokens: 128_000
    price: {input: 0.25, cached_input: 0.025, output: 2.0}
    timeout: {connect: 5, first_byte: 60, idle: 0.5, total: 600}
    circuit_breaker: true
    strategy: price
    fallbacks: [llama]
    deployments: [{provider: openai-main, model: gpt-5-mini-2025-08-07, order: 1, weight: 1, rpm: 500, tpm: 2_000_000, zdr: true}]
  - name: llama
    deployments:
      - {provider: local, model: "llama3.1:8b"}
"""


def model(**lines: str) -> str:
    """A file of one sound model, its members replaced; `name` stands in line 2."""
    members = {"name": "m", "deployments": "[{provider: p, model: u}]", **lines}
    return "models:\n  - " + "\n    ".join(f"{name}: {value}" for name, value in members.items()) + "\n"


def provider(**lines: str) -> str:
    members = {"name": "p", "kind": "openai", **lines}
    return "providers:\n  - " + "\n    ".join(f"{name}: {value}" for name, value in members.items()) + "\n"


def problems(text: str) -> list[Problem]:
    return sorted(read(text)[1])


def price_of(text: str, kind: str = "chat") -> Rates:
    declared, wrong = read(model(kind=kind, price=text))
    assert wrong == []
    assert declared.models[0].price is not None
    return declared.models[0].price


def test_a_sound_file_is_read_as_it_stands() -> None:
    declared, wrong = read(GOOD)
    assert wrong == []
    openai, local = declared.providers
    assert (openai.name, openai.kind, openai.base_url) == ("openai-main", "openai", "https://api.example/v1")
    assert (openai.api_key_env, openai.api_key, openai.options) == ("OPENAI_API_KEY", "", {})
    assert local.options == {"region": "eu", "retries": 2, "headers": {"x-team": ["a", "b"]}, "dated": "2026-01-02"}
    mini, llama = declared.models
    assert (mini.name, mini.kind, mini.context_window, mini.max_output_tokens) == ("gpt-5-mini", "chat", 400_000, 128_000)
    assert mini.price == Rates(input=250_000_000, cache_read=25_000_000, output=2_000_000_000)
    assert mini.timeout == {"connect": 5, "first_byte": 60, "idle": 0.5, "total": 600}
    assert [(entry.provider, entry.model, entry.order, entry.weight) for entry in mini.deployments] == [
        ("openai-main", "gpt-5-mini-2025-08-07", 1, 1)
    ]
    assert [(entry.rpm, entry.tpm, entry.zdr) for entry in mini.deployments] == [(500, 2_000_000, True)]
    assert (mini.strategy, mini.fallbacks, llama.strategy, llama.fallbacks) == ("price", ["llama"], "order", [])
    assert (llama.kind, llama.price, llama.timeout, llama.circuit_breaker) == ("chat", None, {}, True)


def test_capabilities_and_dates_are_read_and_nothing_is_made_up() -> None:
    text = model(capabilities="[vision, tools, vision]", deprecated_on="2026-12-01", retires_on="'2027-03-31'", replaced_by="n")
    declared, wrong = read(text)
    assert wrong == []
    old = declared.models[0]
    assert old.capabilities == ["tools", "vision"]
    assert (old.deprecated_on, old.retires_on, old.replaced_by) == (date(2026, 12, 1), date(2027, 3, 31), "n")
    silent = read(model())[0].models[0]
    assert (silent.capabilities, silent.deprecated_on, silent.retires_on, silent.replaced_by) == ([], None, None, "")


def test_a_price_never_passes_through_a_float() -> None:
    assert price_of("{input: 0.1, output: 0.3}") == Rates(input=100_000_000, output=300_000_000)
    assert price_of("{input: 0.000000001, output: '1e-3'}") == Rates(input=1, output=1_000_000)


def test_numbers_are_decimal_whatever_yaml_makes_of_them() -> None:
    assert price_of("{input: 0100, output: 1_000.5}") == Rates(input=100_000_000_000, output=1_000_500_000_000)
    found, wrong = read(model(deployments="[{provider: p, model: u, rpm: 010, tpm: 09, order: 1_0}]"))
    [deployment] = found.models[0].deployments
    assert (wrong, deployment.rpm, deployment.tpm, deployment.order) == ([], 10, 9, 10)
    assert read(provider(options="{retries: 010, share: 1.50}"))[0].providers[0].options == {"retries": 10, "share": 1.5}


@pytest.mark.parametrize("number", ["0x10", "0o10", "0b1", "1:30", "1__0", "1.5", "'60'", "１２", "9" * 41])
def test_what_is_not_in_decimal_digits_is_no_whole_number(number: str) -> None:
    (found,) = problems(model(deployments=f"[{{provider: p, model: u, rpm: {number}}}]"))
    assert found.reason.startswith("rpm: must be a whole number")


@pytest.mark.parametrize("amount", ["0x10", "0o10", "1:30", "1:30.5", ".inf", "1__0", "１２", "'1,5'", "'1 000'"])
def test_what_is_not_in_decimal_digits_is_no_price(amount: str) -> None:
    (found,) = problems(model(price=f"{{input: {amount}, output: 1}}"))
    assert found.reason.startswith("input: must be an amount of US dollars")


def test_tiers_and_every_token_kind_are_read() -> None:
    rates = price_of(
        "{input: 3, cached_input: 0.3, cache_write: 3.75, cache_write_1h: 6, output: 15, request: 0.01,"
        " tiers: [{above: 200000, input: 6, output: 22.5}]}"
    )
    assert rates == Rates(
        input=3_000_000_000,
        cache_read=300_000_000,
        cache_write_5m=3_750_000_000,
        cache_write_1h=6_000_000_000,
        output=15_000_000_000,
        request=10_000_000,
        tiers=(Tier(above=200_000, input=6_000_000_000, output=22_500_000_000),),
    )


def test_an_image_model_may_be_sold_by_the_image() -> None:
    assert price_of("{image: 0.04, second: 0.1}", kind="image").units == {"image": 40_000_000, "second": 100_000_000}


def test_a_second_of_film_may_have_prices_by_resolution() -> None:
    rates = price_of("{second: 0.6, second_720p: 0.4, second_2160p: 0.6}", kind="video")
    assert rates.units == {"second": 600_000_000, "second_720p": 400_000_000, "second_2160p": 600_000_000}


def test_an_embedding_needs_no_output_price() -> None:
    assert price_of("{input: 0.02}", kind="embedding") == Rates(input=20_000_000, output=20_000_000)


@pytest.mark.parametrize(
    ("price", "reason"),
    [
        ("{input: -1, output: 1}", "input: -1 is negative"),
        ("{input: 0.18000000000000002, output: 1}", "input: 0.18000000000000002 has more decimals than a nano-dollar"),
        ("{input: 1, output: 0.0000000001}", "output: 1E-10 has more decimals than a nano-dollar"),
        ("{input: 1, output: 2000000}", "output: 2000000 is more than 1,000,000 US dollars"),
        ("{input: .nan, output: 1}", "input: must be an amount of US dollars"),
        ("{input: .inf, output: 1}", "input: must be an amount of US dollars"),
        ("{input: cheap, output: 1}", "input: must be an amount of US dollars"),
        ("{input: true, output: 1}", "input: must be an amount of US dollars"),
        ("{input: [1], output: 1}", "input: must be an amount of US dollars"),
        ("{output: 1}", "the price of a chat model needs 'input'"),
        ("{input: 1}", "the price of a chat model needs 'output'"),
        ("{input: 1, output: 1, cached: 1}", "unknown key 'cached' in a price"),
        ("{input: 1, output: 1, input: 2}", "'input' is given twice"),
        ("0.25", "price: must be a mapping"),
        ("{input: 1, output: 1, second: 0.4, second_1080p: 0.6}", "'second_1080p' must not be more than 'second'"),
        ("{input: 1, output: 1, second_720p: 0.4}", "'second_720p' must not be more than 'second'"),
        ("{input: 1, output: 1, second_721p: 0.4}", "unknown key 'second_721p' in a price"),
        ("{input: 1, output: 1, tiers: [{above: 5, input: 1}]}", "a tier needs 'output'"),
        (
            "{input: 1, output: 1, tiers: [{above: 5, input: 1, output: 1}, {above: 5, input: 1, output: 1}]}",
            "tiers must ascend",
        ),
    ],
)
def test_a_bad_price_is_named_with_its_line(price: str, reason: str) -> None:
    found = problems(model(price=price))
    assert found
    assert {line for line, _ in found} == {4}
    assert any(reason in text for _, text in found)


@pytest.mark.parametrize(
    ("member", "value", "reason"),
    [
        ("colour", "blue", "unknown key 'colour' in a model; there are name, kind"),
        ("kind", "chatty", "kind: 'chatty' is none of chat, embedding"),
        ("context_window", "many", "context_window: must be a whole number"),
        ("context_window", "0", "must be a whole number from 1 to 2147483647"),
        ("max_output_tokens", "12.5", "must be a whole number"),
        ("max_output_tokens", "99999999999999999999999999", "must be a whole number from 1"),
        ("capabilities", "[tools, telepathy]", "capabilities: 'telepathy' is none of streaming, tools"),
        ("capabilities", "tools", "capabilities: must be a list"),
        ("capabilities", "[{tools: true}]", "capabilities: must be text"),
        ("deprecated_on", "soon", "deprecated_on: must be a date such as 2027-01-31"),
        ("deprecated_on", "2027", "deprecated_on: must be a date"),
        ("retires_on", "2027-02-30", "retires_on: must be a date"),
        ("retires_on", "2027-01-31T10:00:00Z", "retires_on: must be a date"),
        ("replaced_by", "5", "replaced_by: must be text"),
        ("circuit_breaker", "maybe", "must be true or false"),
        ("strategy", "luck", "strategy: 'luck' is none of order, price, latency"),
        ("fallbacks", "other", "fallbacks: must be a list"),
        ("fallbacks", "[5]", "fallbacks: must be text"),
        ("fallbacks", "[a, b, a]", "fallbacks: must name each model once"),
        ("timeout", "{connect: 0}", "connect: must be more than 0"),
        ("timeout", "{first_byte: soon}", "first_byte: must be a number of seconds"),
        ("timeout", "{idle: 86401}", "at most 86400 seconds"),
        ("timeout", "{slow: 5}", "unknown key 'slow' in timeout"),
        ("timeout", "60", "timeout must be a mapping"),
    ],
)
def test_a_bad_member_of_a_model_is_named_with_its_line(member: str, value: str, reason: str) -> None:
    (found,) = problems(model(**{member: value}))
    assert found.line == 4
    assert reason in found.reason


@pytest.mark.parametrize(
    ("deployments", "reason"),
    [
        ("[]", "a model needs at least one deployment"),
        ("openai", "deployments: must be a list"),
        ("[openai]", "a deployment must be a mapping"),
        ("[{provider: p}]", "a deployment needs 'model'"),
        ("[{provider: p, model: u, order: 0}]", "order: must be a whole number from 1"),
        ("[{provider: p, model: u, order: 40000}]", "order: must be a whole number from 1 to 32767"),
        ("[{provider: p, model: u, weight: -1}]", "weight: must be a whole number"),
        ("[{provider: p, model: u, rpm: 0}]", "rpm: must be a whole number from 1"),
        ("[{provider: p, model: u, tpm: some}]", "tpm: must be a whole number"),
        ("[{provider: p, model: u, zdr: perhaps}]", "zdr: must be true or false"),
        ("[{provider: p, model: 4.1}]", "model: must be text (put it in quotes)"),
        ("[{provider: p, model: u}, {provider: p, model: u}]", "deployment 'p u' is declared twice, first in line 3"),
    ],
)
def test_a_bad_deployment_is_named_with_its_line(deployments: str, reason: str) -> None:
    found = problems(model(deployments=deployments))
    assert any(reason in text and line in {2, 3} for line, text in found)


@pytest.mark.parametrize(
    ("member", "value", "reason"),
    [
        ("kind", "opnai", "kind: 'opnai' is not a kind of provider"),
        ("name", "open ai", "name: 'open ai' may hold letters, digits, - and _ only"),
        ("base_url", "ftp://x", "base_url: must be a http:// or https:// address"),
        ("base_url", "https://user:pw@x.example", "base_url: must be a http:// or https:// address"),
        ("base_url", "'https://x:port'", "base_url: must be a http:// or https:// address"),
        ("api_key_env", "sk-12345678", "api_key_env: must be the name of an environment variable"),
        ("options", "[a]", "options: must be a mapping"),
        ("options", "{a: {b: {c: {d: {e: 1}}}}}", "options: is nested more than 3 levels deep"),
        ("options", "{a: !secret b}", "options: holds the tag !secret, which says nothing here"),
        ("options", "{a: !!bool b}", "options: holds the tag tag:yaml.org,2002:bool, which says nothing here"),
        ("options", '{a: "\\0"}', "options: may hold no NUL"),
        ("options", '{a: ["\\udfff"]}', "options: may hold no NUL and no half of a character"),
        ("options", '{"\\0": b}', "options: may hold no NUL"),
        ("options", "{protocols: [[]]}", "options.protocols must list protocols that providers speak: "),
        ("options", "{a: .inf}", "options: may hold text, numbers in decimal digits"),
        ("options", "{a: 1.0e+999}", "options: may hold text, numbers in decimal digits"),
        ("options", "{a: [0x10]}", "options: may hold text, numbers in decimal digits"),
        ("options", "{a: 1:30}", "options: may hold text, numbers in decimal digits"),
        ("options", "{protocols: [telepathy]}", "options.protocols must list protocols that providers speak: "),
        ("options", "{protocols: responses}", "options.protocols must list protocols that providers speak: "),
        ("options", "{protocols: []}", "options.protocols must list protocols that providers speak: "),
    ],
)
def test_a_bad_member_of_a_provider_is_named(member: str, value: str, reason: str) -> None:
    (found,) = problems(provider(**{member: value}))
    assert reason in found.reason


@pytest.mark.parametrize("address", ["ftp://x", "''", "[]"])
def test_an_address_that_is_wrong_is_not_missing_too(address: str) -> None:
    (found,) = problems(provider(kind="openai-compatible", base_url=address))
    assert found.reason.startswith("base_url: must ")


def test_a_model_does_not_fall_back_to_itself() -> None:
    assert problems(model(fallbacks="[a, m]")) == [Problem(2, "a model cannot fall back to itself")]


def test_a_kind_without_an_address_of_its_own_needs_one() -> None:
    (found,) = problems(provider(kind="openai-compatible"))
    assert found == Problem(2, "a provider of kind openai-compatible needs base_url")


def test_a_provider_has_one_credential() -> None:
    (found,) = problems(provider(api_key="sk-1", api_key_env="KEY"))
    assert found.reason == "give api_key or api_key_env, not both"


def test_a_kind_that_lives_in_a_region_needs_to_be_told_which() -> None:
    found = problems(provider(kind="bedrock", options="{regoin: eu-central-1}"))
    assert found == [Problem(2, "a provider of kind bedrock needs the option region: letters, digits, - . :")]
    assert problems(provider(kind="bedrock", options="{region: eu-central-1}")) == []
    assert problems(provider(kind="vertex", options="{region: global}")) == []


def test_a_key_file_may_stand_in_the_catalogue() -> None:
    declared, wrong = read(provider(kind="gemini", api_key='|\n      {"client_email": "a@b",\n      "private_key": "x"}'))
    assert wrong == []
    assert declared.providers[0].api_key == '{"client_email": "a@b",\n"private_key": "x"}'


@pytest.mark.parametrize("key", ['"a\\nb"', '"{\\tx}"', '" "', f'"{"x" * 8001}"'])
def test_a_key_is_one_line_of_reasonable_length(key: str) -> None:
    (found,) = problems(provider(api_key=key))
    assert found.reason.startswith("api_key: ")


def test_a_credential_never_stands_in_a_message() -> None:
    secret = "sk-very-secret-value"
    text = provider(api_key=f"[{secret}]") + provider(name="q", api_key=f'"{secret}\\n"').replace("providers:\n", "")
    assert problems(text)
    assert secret not in str(BadCatalogue(problems(text)))
    declared, _ = read(provider(api_key=secret))
    assert secret not in repr(declared)


def test_names_are_declared_once_and_models_whatever_their_case() -> None:
    twice = model(name="GPT") + model(name="gpt").replace("models:\n", "")
    assert problems(twice) == [Problem(4, "model 'gpt' is declared twice, first in line 2")]
    again = provider() + provider().replace("providers:\n", "")
    assert problems(again) == [Problem(4, "provider 'p' is declared twice, first in line 2")]


def test_every_problem_is_told_at_once_in_the_order_of_lines() -> None:
    text = provider(kind="nope", colour="blue") + model(price="{input: -1, output: 1}", context_window="x")
    wrong = BadCatalogue(read(text)[1])
    assert [problem.line for problem in wrong.problems] == [3, 4, 8, 9]
    assert str(wrong).splitlines()[0].startswith("line 3: kind: 'nope'")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", 1),
        ("# nothing\n", 1),
        ("providers: [\n", 2),
        ("providers:\n\t- x\n", 2),
        ("a: 1\n---\nb: 2\n", 2),
        ("models: *unknown\n", 1),
        ("- just\n- a list\n", 1),
        ("text", 1),
        ("\0", 1),
    ],
)
def test_what_is_no_catalogue_is_told_with_a_line(text: str, line: int) -> None:
    (found, *_) = problems(text)
    assert found.line == line


def test_a_key_without_a_value_counts_as_left_out() -> None:
    declared, wrong = read(model(price="", timeout="~"))
    assert wrong == []
    assert (declared.models[0].price, declared.models[0].timeout) == (None, {})
    assert [problem.reason for problem in problems(model(name=""))] == ["a model needs 'name'"]


@given(usd=st.decimals(0, 1_000_000, places=9))
def test_every_price_a_nano_dollar_can_express_is_read_exactly(usd: Decimal) -> None:
    rates = price_of(f"{{input: {usd:f}, output: 1}}")
    assert Decimal(rates.input) == usd * 10**9


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.dates(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["providers", "models", "name", "kind", "price", "input", "tiers", "options", "deployments", "x"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(junk=JUNK)
def test_whatever_the_file_holds_is_read_or_reported_and_never_breaks(junk: object) -> None:
    declared, wrong = read(yaml.safe_dump({"providers": junk, "models": junk}))
    assert isinstance(declared, catalogue_file.Declaration)
    assert all(problem.line >= 1 and problem.reason for problem in wrong)


@given(text=st.text(max_size=60))
def test_any_text_is_read_or_reported(text: str) -> None:
    read(text)
