"""Calls through the front door, by the official SDK as it comes: what callers get, and what the ledger says of it."""

import json
from decimal import Decimal

import httpx
import openai
import pytest

from billing.pricing import Rates, bill
from gateway_project.lib.money import exact_usd
from proxy.canonical.usage import Usage
from tests.gateways import Gateway
from tests.house import MESSAGES, RATES, House, raw, reprice
from tests.upstream import DONE, HTML, RESET, Upstream, answer, frame, frames, refuse, stream, usage_of

COST_OF_HELLO = 10 * 1_000 + 2 * 4_000  # ten tokens in, two out, in nano-dollars


def test_a_chat_completion_is_answered_recorded_and_charged(gateway: Gateway, house: House, upstream: Upstream) -> None:
    upstream.on("scripted", answer("Hello", usage=(10, 2)))

    got = house.client(gateway.url).chat.completions.with_raw_response.create(model="scripted", messages=MESSAGES)

    assert got.parse().choices[0].message.content == "Hello"
    assert got.headers["x-gatehouse-cost-usd"] == exact_usd(COST_OF_HELLO) == "0.000018"
    assert got.headers["x-gatehouse-model"] == "scripted"
    assert got.headers["x-request-id"] == got.headers["request-id"]
    row = house.row_of(got.headers["x-request-id"])
    assert (row.status, row.charged_nano_usd, row.list_nano_usd) == ("ok", COST_OF_HELLO, COST_OF_HELLO)
    assert (row.input_tokens, row.output_tokens, row.usage_estimated) == (10, 2, False)
    assert row.cost_parts == {"input": 10_000, "output": 8_000}
    assert house.held() == {}


def test_the_row_says_who_and_where(gateway: Gateway, house: House) -> None:
    world = house.world
    _, key = house.new_key(
        application=world.assistant, environment="production", features=["chat", "search"], group=world.gateway
    )
    client = house.client(gateway.url, key)

    got = client.chat.completions.with_raw_response.create(
        model="scripted", messages=MESSAGES, extra_headers={"x-gatehouse-feature": "search"}
    )

    row = house.row_of(got.headers["x-request-id"])
    assert (row.organization_id, row.member_id, row.application_id) == (world.acme.pk, world.mia.pk, world.assistant.pk)
    assert [row.group0_id, row.group1_id, row.group2_id, row.group3_id, row.group4_id] == [
        world.root.pk,
        world.engineering.pk,
        world.platform.pk,
        world.gateway.pk,
        None,
    ]
    assert (row.feature, row.environment, row.requested_model, row.provider) == ("search", "production", "scripted", "scripted")


def test_every_subject_of_the_path_counts_the_call(gateway: Gateway, house: House) -> None:
    house.client(gateway.url).chat.completions.create(model="scripted", messages=MESSAGES)

    world = house.world
    path = ["org", "pool", f"g{world.engineering.pk}", f"g{world.platform.pk}", f"g{world.gateway.pk}"]
    for subject in [*path, f"m{world.mia.pk}", f"k{house.key.pk}"]:
        assert house.counter(subject) == {"spent": COST_OF_HELLO, "held": 0}, subject


def test_a_stream_is_relayed_and_its_usage_charged_though_nobody_asked_for_it(
    gateway: Gateway, house: House, upstream: Upstream
) -> None:
    upstream.on("scripted", stream(*frames("Hel", "lo", usage=(10, 2))))

    chunks = list(house.client(gateway.url).chat.completions.create(model="scripted", messages=MESSAGES, stream=True))

    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "Hello"
    assert all(chunk.choices and chunk.usage is None for chunk in chunks)
    assert upstream.received[-1].json["stream_options"] == {"include_usage": True}
    (row,) = house.rows()
    assert (row.status, row.streamed, row.charged_nano_usd) == ("ok", True, COST_OF_HELLO)
    assert row.first_token_ms is not None
    assert house.held() == {}


def test_a_stream_shows_its_usage_to_a_caller_who_asks(gateway: Gateway, house: House) -> None:
    chunks = list(
        house.client(gateway.url).chat.completions.create(
            model="scripted", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
        )
    )

    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 12


def test_a_stream_passes_byte_for_byte(gateway: Gateway, house: House, upstream: Upstream) -> None:
    sent = frames("Zürich \u2028 ", "\U0001f600")
    upstream.on("scripted", stream(*sent))
    body = (
        b'{"model":"scripted","messages":[{"role":"user","content":"x"}],"stream":true,"stream_options":{"include_usage":true}}'
    )

    got = raw(gateway.url, house.key_text, body)

    assert got.content == b"".join(sent)
    assert got.headers["content-type"].startswith("text/event-stream")


def test_cached_tokens_are_billed_at_their_own_price(gateway: Gateway, house: House, upstream: Upstream) -> None:
    usage = {"prompt_tokens": 1000, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 800}}
    upstream.on("scripted", answer("cached", usage=usage))

    got = house.client(gateway.url).chat.completions.with_raw_response.create(model="scripted", messages=MESSAGES)

    by_hand = 200 * 1_000 + 800 * 100 + 5 * 4_000
    assert got.headers["x-gatehouse-cost-usd"] == exact_usd(by_hand)
    row = house.row_of(got.headers["x-request-id"])
    assert (row.input_tokens, row.cache_read_tokens, row.charged_nano_usd) == (200, 800, by_hand)


def test_a_stock_client_of_the_jdk_is_answered_though_it_offers_another_protocol(
    gateway: Gateway, house: House, upstream: Upstream
) -> None:
    upstream.on("scripted", answer("Hello", usage=(10, 2)))
    offer = {"connection": "Upgrade, HTTP2-Settings", "upgrade": "h2c", "http2-settings": "AAMAAABkAAQAoAAAAAIAAAAA"}
    body = json.dumps({"model": "scripted", "messages": MESSAGES}).encode()

    got = raw(gateway.url, house.key_text, body, **offer)

    assert (got.status_code, got.json()["choices"][0]["message"]["content"]) == (200, "Hello")


@pytest.mark.parametrize("streamed", [False, True])
def test_what_was_heard_and_spoken_is_billed_at_its_own_price(
    gateway: Gateway, house: House, upstream: Upstream, streamed: bool
) -> None:
    reprice("gpt-audio-scripted", Rates(input=10**9, output=4 * 10**9, audio_input=32 * 10**9, audio_output=64 * 10**9))
    heard = {"cached_tokens": 0, "audio_tokens": 90, "text_tokens": 10}
    spoken = {"reasoning_tokens": 0, "audio_tokens": 70, "text_tokens": 5}
    usage = usage_of(100, 75, prompt_tokens_details=heard, completion_tokens_details=spoken)
    said = frame({"role": "assistant", "audio": {"id": "a", "data": "AAAA"}})
    script = stream(said, frame(finish="stop"), frame(usage=usage), DONE) if streamed else answer("Hello", usage=usage)
    upstream.on("gpt-audio-scripted", script)
    sound = {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}
    asked = {"messages": [{"role": "user", "content": [sound]}], "modalities": ["text", "audio"], "stream": streamed}

    body = {"model": "gpt-audio-scripted", "audio": {"voice": "alloy", "format": "wav"}, "max_tokens": 200, **asked}
    got = raw(gateway.url, house.key_text, json.dumps(body).encode())

    row = house.row_of(got.headers["x-request-id"])
    assert (row.input_tokens, row.output_tokens) == (100, 75)
    assert row.charged_nano_usd == 10 * 1_000 + 90 * 32_000 + 5 * 4_000 + 70 * 64_000


def test_an_answer_without_usage_is_charged_by_a_marked_estimate(gateway: Gateway, house: House, upstream: Upstream) -> None:
    upstream.on("scripted", answer("x" * 400, usage=None))

    got = house.client(gateway.url).chat.completions.with_raw_response.create(model="scripted", messages=MESSAGES)

    row = house.row_of(got.headers["x-request-id"])
    assert row.usage_estimated
    assert row.output_tokens == 100
    assert row.charged_nano_usd > 0


def test_an_explicit_zero_is_a_zero(gateway: Gateway, house: House, upstream: Upstream) -> None:
    upstream.on("scripted", answer("free", usage=(0, 0)))

    got = house.client(gateway.url).chat.completions.with_raw_response.create(model="scripted", messages=MESSAGES)

    assert got.headers["x-gatehouse-cost-usd"] == "0"
    assert not house.row_of(got.headers["x-request-id"]).usage_estimated


def test_no_output_and_no_finish_reason_is_free(gateway: Gateway, house: House, upstream: Upstream) -> None:
    upstream.on("scripted", answer("", usage=(10, 0), finish=""))

    got = house.client(gateway.url).chat.completions.with_raw_response.create(model="scripted", messages=MESSAGES)

    assert house.row_of(got.headers["x-request-id"]).charged_nano_usd == 0


@pytest.mark.parametrize("asks_for_stream", [False, True])
def test_a_failing_deployment_is_replaced_and_costs_nothing(
    gateway: Gateway, house: House, upstream: Upstream, asks_for_stream: bool
) -> None:
    upstream.on("pair", refuse(500))
    got = house.client(gateway.url).chat.completions.with_raw_response.create(
        model="pair", messages=MESSAGES, stream=asks_for_stream
    )
    call_id = got.headers["x-request-id"]
    if asks_for_stream:
        list(got.parse())

    row = house.row_of(call_id)
    assert (row.status, row.served_model, row.charged_nano_usd) == ("ok", "pair-second", COST_OF_HELLO)
    assert [(attempt.provider, attempt.status) for attempt in house.attempts_of(call_id)] == [
        ("scripted", "failed"),
        ("second", "ok"),
    ]
    assert "attempts=2" in got.headers["x-gatehouse-route"]


@pytest.mark.parametrize(
    ("script", "status", "code"),
    [
        (refuse(500), 502, "provider_error"),
        (refuse(401, "Incorrect API key provided: sk-abcdef123456"), 502, "provider_error"),
        (refuse(429, headers={"retry-after": "7"}), 503, "provider_overloaded"),
        (refuse(529), 503, "provider_overloaded"),
        (HTML, 502, "provider_error"),
        (RESET, 502, "provider_error"),
        (stream(b"data: {oops\n\n"), 502, "provider_error"),
        (answer(headers={"content-type": "application/json"}, status=200, usage=(1, 1)), 200, ""),
    ],
)
def test_what_a_provider_does_wrong_costs_nothing(
    gateway: Gateway, house: House, upstream: Upstream, script: object, status: int, code: str
) -> None:
    upstream.on("scripted", script)  # type: ignore[arg-type]

    got = raw(gateway.url, house.key_text, b'{"model":"scripted","messages":[{"role":"user","content":"x"}]}')

    assert got.status_code == status
    if status == 200:
        return
    error = got.json()["error"]
    assert error["gatehouse"]["code"] == code
    assert "sk-abcdef123456" not in got.text
    row = house.row_of(got.headers["x-request-id"])
    assert (row.status, row.charged_nano_usd, row.error_code) == ("failed", 0, code)
    assert house.nothing_held()


@pytest.mark.parametrize("streamed", [False, True])
def test_a_connection_that_is_closed_as_it_is_used_again_costs_the_caller_nothing(
    gateway: Gateway, house: House, upstream: Upstream, streamed: bool
) -> None:
    """The model has one deployment: who closes what was kept must not cost a call."""
    body = b'{"model":"scripted","stream":%s,"messages":[{"role":"user","content":"x"}]}'
    assert raw(gateway.url, house.key_text, body % b"false").status_code == 200
    upstream.then(RESET)

    got = raw(gateway.url, house.key_text, body % str(streamed).lower().encode())

    assert got.status_code == 200
    assert len(upstream.received) == 3
    row = house.row_of(got.headers["x-request-id"])
    assert (row.status, row.charged_nano_usd > 0) == ("ok", True)
    assert [entry.status for entry in house.attempts_of(got.headers["x-request-id"])] == ["ok"]
    assert len(house.rows()) == 2
    assert house.nothing_held()


def test_the_provider_s_own_reason_for_a_bad_request_reaches_the_caller(
    gateway: Gateway, house: House, upstream: Upstream
) -> None:
    upstream.on("scripted", refuse(400, "This model's maximum context length is 10 tokens.", code="context_length_exceeded"))

    with pytest.raises(openai.BadRequestError) as caught:
        house.client(gateway.url).chat.completions.create(model="scripted", messages=MESSAGES)

    assert caught.value.code == "context_length_exceeded"


def test_a_slow_provider_is_a_gateway_timeout(gateway: Gateway, house: House, upstream: Upstream) -> None:
    upstream.on("impatient", answer(before=2))

    with pytest.raises(openai.InternalServerError) as caught:
        house.client(gateway.url).chat.completions.create(model="impatient", messages=MESSAGES)

    assert caught.value.status_code == 504
    assert upstream.received[-1].gone.wait(5)
    assert house.nothing_held()


def test_an_error_before_the_first_frame_of_a_stream_is_a_real_status(gateway: Gateway, house: House, upstream: Upstream) -> None:
    upstream.on("scripted", stream(b'data: {"error": {"message": "overloaded", "type": "overloaded_error"}}\n\n'))

    with pytest.raises(openai.APIStatusError) as caught:
        house.client(gateway.url).chat.completions.create(model="scripted", messages=MESSAGES, stream=True)

    assert caught.value.status_code == 503


@pytest.mark.parametrize(
    "parts",
    [
        [frame({"content": "Hel"}), 0.1, b'data: {"error": {"message": "boom", "type": "server_error"}}\n\n'],
        [frame({"content": "Hel"}), 0.1, b"data: not json\n\n"],
        [frame({"content": "Hel"})],
    ],
    ids=["error frame", "broken frame", "ends early"],
)
def test_a_stream_that_breaks_is_an_error_and_costs_nothing(
    gateway: Gateway, house: House, upstream: Upstream, parts: list[bytes | float]
) -> None:
    upstream.on("scripted", stream(*parts))

    chunks = iter(house.client(gateway.url).chat.completions.create(model="scripted", messages=MESSAGES, stream=True))

    assert next(chunks).choices[0].delta.content == "Hel"
    with pytest.raises(openai.APIError):
        next(chunks)
    assert house.nothing_held()
    (row,) = house.rows()
    assert (row.status, row.charged_nano_usd) == ("failed", 0)
    assert row.absorbed_nano_usd > 0


def test_the_cost_headers_add_up_to_the_ledger(gateway: Gateway, house: House, upstream: Upstream) -> None:
    client, total = house.client(gateway.url), Decimal(0)
    for tokens in range(1, 30):
        upstream.on("scripted", answer("x", usage=(tokens * 37, tokens * 11)))
        got = client.chat.completions.with_raw_response.create(model="scripted", messages=MESSAGES)
        total += Decimal(got.headers["x-gatehouse-cost-usd"])

    rows = house.rows()
    by_hand = sum(row.input_tokens * 1_000 + row.output_tokens * 4_000 for row in rows)
    assert sum(row.charged_nano_usd for row in rows) == by_hand == int(total * 10**9)
    assert house.counter("org") == {"spent": by_hand, "held": 0}


def test_the_models_this_gateway_offers_are_listed(gateway: Gateway, house: House) -> None:
    client = house.client(gateway.url)

    names = {model.id for model in client.models.list()}

    assert {"scripted", "pair", "sandbox-instant"} <= names
    assert client.models.retrieve("scripted").owned_by == "scripted"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("no-such-model")


def test_a_key_can_ask_what_applies_to_it(gateway: Gateway, house: House, upstream: Upstream) -> None:
    house.limit("budget", 5 * 10**9, window="day")
    house.limit("rpm", 30, window="minute", member=house.world.mia)
    house.client(gateway.url).chat.completions.create(model="scripted", messages=MESSAGES)

    told = httpx.get(f"{gateway.url}/v1/key", headers={"authorization": f"Bearer {house.key_text}"}).json()

    assert told["path"][1:] == ["engineering", "platform", "gateway"]
    limits = {(limit["level"], limit["kind"]): limit for limit in told["limits"]}
    day = limits["key", "budget"]
    assert (day["limit"], day["spent"], day["held"], day["left"]) == ("5", "0.000018", "0", "4.999982")
    assert day["resets_at"] is not None
    assert (limits["member", "rpm"]["spent"], limits["member", "rpm"]["left"]) == ("1", "29")
    assert limits["credit pool", "budget"]["limit"] == "1000"


def test_bill_of_the_test_prices_agrees_with_arithmetic_by_hand() -> None:
    from billing.pricing import Price

    price = Price(version_id=1, sku="model:scripted", rates=RATES["scripted"])
    assert bill(price, Usage(input_uncached=10, output=2)).total == COST_OF_HELLO


def test_a_stream_without_a_single_frame_is_replaced_by_the_next_deployment(
    gateway: Gateway, house: House, upstream: Upstream
) -> None:
    upstream.on("pair", stream())

    chunks = list(house.client(gateway.url).chat.completions.create(model="pair", messages=MESSAGES, stream=True))

    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "Hello"
    (row,) = house.rows()
    assert (row.status, row.served_model, row.attempt_count) == ("ok", "pair-second", 2)


@pytest.mark.parametrize("ending", ["reset", "hang"])
def test_after_done_it_does_not_matter_how_the_provider_ends(
    gateway: Gateway, house: House, upstream: Upstream, ending: str
) -> None:
    upstream.on("scripted", stream(*frames("Hel", "lo"), 0.3, ending=ending))

    chunks = list(house.client(gateway.url).chat.completions.create(model="scripted", messages=MESSAGES, stream=True))

    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "Hello"
    (row,) = house.rows()
    assert (row.status, row.charged_nano_usd) == ("ok", COST_OF_HELLO)
    assert house.nothing_held()


def test_a_provider_that_knows_only_the_older_name_of_the_maximum_is_told_by_it(
    gateway: Gateway, house: House, upstream: Upstream
) -> None:
    house.client(gateway.url).chat.completions.create(model="scripted", messages=MESSAGES, max_completion_tokens=7)

    sent = upstream.received[-1].json
    assert (sent["max_completion_tokens"], sent["max_tokens"]) == (7, 7)


@pytest.mark.parametrize("spelling", [b'"priority"', b'"\\u0070riority"', b'"fast"', b'"ultrafast"'])
def test_a_tier_with_a_price_of_its_own_is_refused_however_it_is_spelt(
    gateway: Gateway, house: House, upstream: Upstream, spelling: bytes
) -> None:
    body = b'{"model":"scripted","messages":[{"role":"user","content":"x"}],"service_tier":%s}' % spelling

    got = raw(gateway.url, house.key_text, body)

    assert (got.status_code, got.json()["error"]["param"]) == (400, "service_tier")
    assert upstream.received == []


def test_a_change_of_price_counts_for_every_key_on_its_next_call(gateway: Gateway, house: House, upstream: Upstream) -> None:
    """One key fills the worker's snapshot, the price changes, and a key that the worker does not know yet calls."""
    upstream.on("repriced", answer(usage=(10, 2)))
    reprice("repriced", Rates(input=1 * 10**9, output=4 * 10**9))
    house.client(gateway.url).chat.completions.create(model="repriced", messages=MESSAGES)

    reprice("repriced", Rates(input=2 * 10**9, output=8 * 10**9))

    _, other = house.new_key()
    for key in (other, house.key_text):
        got = house.client(gateway.url, key).chat.completions.with_raw_response.create(model="repriced", messages=MESSAGES)
        assert got.headers["x-gatehouse-cost-usd"] == exact_usd(2 * COST_OF_HELLO)
