"""What each vendor's answers mean to the bill, and what each kind of provider is sent: one line per oddity."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.canonical.usage import Usage
from proxy.errors import AttemptFailed
from proxy.protocols import chat_completions, messages
from proxy.protocols.chat_replies import StreamReader, read_reply
from proxy.protocols.failures import MAX_MESSAGE, read_failure, scrub
from proxy.protocols.surrogates import readable, replace_halves, suspected
from proxy.providers import registry
from proxy.providers.base import Target, Timeouts
from tests.proxy.calls import body
from tests.proxy.conftest import Run
from tests.upstream import DONE, Upstream, answer, frame

# NaN and Infinity are no JSON: an answer that holds one cannot be read at all.
FINITE = st.floats(allow_nan=False, allow_infinity=False)


def whole(**usage: Any) -> Usage | None:
    choices = [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}]
    return read_reply(json.dumps({"choices": choices, "usage": usage}).encode()).usage


def streamed(*frames: bytes, n: int = 1) -> StreamReader:
    reader = StreamReader(n=n)
    for each in frames:
        reader.feed(each)
    reader.flush()
    return reader


# --- usage -------------------------------------------------------------------------------------
VENDORS: dict[str, tuple[dict[str, Any], Usage | None]] = {
    "openai": (
        {
            "prompt_tokens": 2006,
            "completion_tokens": 300,
            "total_tokens": 2306,
            "prompt_tokens_details": {"cached_tokens": 1920, "audio_tokens": 0},
            "completion_tokens_details": {
                "reasoning_tokens": 128,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 9,
            },
        },
        Usage(input_uncached=86, cache_read=1920, output=300, reasoning=128),
    ),
    "openai with cache writes": (
        {"prompt_tokens": 100, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 30, "cache_write_tokens": 50}},
        Usage(input_uncached=20, cache_read=30, cache_write_5m=50, output=1),
    ),
    "deepseek": (
        {
            "prompt_tokens": 100,
            "completion_tokens": 20,
            "total_tokens": 120,
            "prompt_cache_hit_tokens": 64,
            "prompt_cache_miss_tokens": 36,
            "completion_tokens_details": {"reasoning_tokens": 15},
        },
        Usage(input_uncached=36, cache_read=64, output=20, reasoning=15),
    ),
    "deepseek in both spellings": (
        {
            "prompt_tokens": 100,
            "completion_tokens": 20,
            "prompt_tokens_details": {"cached_tokens": 64},
            "prompt_cache_hit_tokens": 64,
            "prompt_cache_miss_tokens": 36,
        },
        Usage(input_uncached=36, cache_read=64, output=20),
    ),
    "moonshot": (
        {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120, "cached_tokens": 10},
        Usage(input_uncached=90, cache_read=10, output=20),
    ),
    "xai counts reasoning beside the completion": (
        {
            "prompt_tokens": 10,
            "completion_tokens": 5,
            "total_tokens": 115,
            "completion_tokens_details": {"reasoning_tokens": 100},
        },
        Usage(input_uncached=10, output=105, reasoning=100),
    ),
    "groq adds its times": (
        {
            "queue_time": 0.1,
            "prompt_tokens": 10,
            "prompt_time": 0.002,
            "completion_tokens": 5,
            "total_tokens": 15,
            "total_time": 0.3,
        },
        Usage(input_uncached=10, output=5),
    ),
    "mistral": (
        {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15, "prompt_audio_seconds": None},
        Usage(10, output=5),
    ),
    "ollama": ({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}, Usage(10, output=5)),
    "openrouter adds a cost": (
        {
            "prompt_tokens": 10,
            "completion_tokens": 5,
            "total_tokens": 15,
            "cost": 0.00014,
            "is_byok": False,
            "cost_details": {"x": None},
        },
        Usage(10, output=5),
    ),
    "together": ({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15, "cached_tokens": 0}, Usage(10, output=5)),
    "vllm without details": (
        {"prompt_tokens": 10, "total_tokens": 15, "completion_tokens": 5, "prompt_tokens_details": None},
        Usage(10, output=5),
    ),
    "gemini's total includes its thoughts": (
        {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 65, "completion_tokens_details": {"reasoning_tokens": 50}},
        Usage(10, output=55, reasoning=50),
    ),
    "figures as floats": ({"prompt_tokens": 10.0, "completion_tokens": 5.0, "total_tokens": 15.0}, Usage(10, output=5)),
    "details of another type": (
        {"prompt_tokens": 10, "completion_tokens": 5, "completion_tokens_details": []},
        Usage(10, output=5),
    ),
    "embedding-like": ({"prompt_tokens": 10, "total_tokens": 10}, Usage(10)),
    "figures as text say nothing": ({"prompt_tokens": "10", "completion_tokens": "5"}, None),
    "a total below the prompt says nothing": ({"prompt_tokens": 10, "total_tokens": 5}, None),
}


@pytest.mark.parametrize("vendor", sorted(VENDORS))
def test_each_vendors_usage_counts_every_token_once(vendor: str) -> None:
    reported, expected = VENDORS[vendor]
    assert whole(**reported) == expected
    # In a stream it means the same, wherever it stands: in a frame of its own or beside the finish reason.
    own = streamed(frame({"content": "Hi"}), frame({}, finish="stop"), frame(usage=reported), DONE)
    beside = streamed(frame({"content": "Hi"}), frame({}, finish="stop", usage=reported), DONE)
    assert own.usage == beside.usage == expected


def test_running_usage_is_overwritten_never_added() -> None:
    running = [frame({"content": "x"}, usage={"prompt_tokens": 10, "completion_tokens": count}) for count in (1, 2, 3)]
    assert streamed(*running, frame({}, finish="stop"), DONE).usage == Usage(10, output=3)


def test_a_null_after_the_usage_does_not_take_it_back() -> None:
    reader = streamed(frame(usage={"prompt_tokens": 1, "completion_tokens": 2}), frame({"content": "x"}, usage=None), DONE)
    assert reader.usage == Usage(1, output=2)


@given(
    st.dictionaries(
        st.sampled_from(["prompt_tokens", "completion_tokens", "total_tokens", "cached_tokens", "prompt_cache_hit_tokens"]),
        st.none() | st.integers() | FINITE | st.text(max_size=3) | st.booleans() | st.lists(st.integers(), max_size=2),
    )
)
def test_no_usage_whatever_breaks_a_call_or_makes_a_negative_bill(reported: dict[str, Any]) -> None:
    found = whole(**reported)
    if found is not None:
        assert min(found.input_uncached, found.cache_read, found.cache_write_5m, found.output, found.reasoning) >= 0
        assert found.reasoning <= found.output
        assert found.total < 4 * 10**9


# --- several choices and tools -----------------------------------------------------------------
@given(st.lists(st.tuples(st.integers(0, 2), st.text(min_size=1, max_size=5)), max_size=12))
def test_choices_that_come_interleaved_are_all_read(deltas: list[tuple[int, str]]) -> None:
    parts = [frame({"content": text}, index=index) for index, text in deltas]
    ends = [frame({}, finish=reason, index=index) for index, reason in ((2, "length"), (0, "stop"), (1, "tool_calls"))]
    reader = streamed(*parts, *ends, n=3)
    assert reader.text == "".join(text for _, text in deltas)
    assert reader.finish_reasons == ("stop", "tool_calls", "length")


def test_parallel_tool_calls_in_one_delta_are_both_received() -> None:
    calls = [{"index": number, "id": f"c{number}", "function": {"name": f"f{number}", "arguments": "{}"}} for number in (0, 1)]
    assert streamed(frame({"tool_calls": calls})).text == "f0{}f1{}"


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_thinking_is_output_under_either_name_and_counted_once(name: str) -> None:
    assert streamed(frame({name: "Hm."})).text == "Hm."
    assert streamed(frame({"reasoning_content": "Hm.", "reasoning": "Hm."})).text == "Hm."


# --- lone surrogates ---------------------------------------------------------------------------
PIECES = st.sampled_from(
    [r"\ud83d", r"\ude00", r"\ud83d\ude00", r"\\", r"\n", "a", "é", r"\u00e9", r"\\ud83d", r"\uDBFF", '\\"', "u", "d83d", r"\/"]
)


@given(st.lists(PIECES, max_size=12).map("".join))
def test_what_is_read_of_broken_text_is_valid_and_whole_text_is_left_alone(text: str) -> None:
    source = f'"{text}"'.encode()
    replaced = readable(source)
    assert "\ud83d" not in json.loads(replaced)
    json.loads(replaced).encode()
    expected = json.loads(source)
    if not any("\ud800" <= char <= "\udfff" for char in expected):
        assert replaced == source
    assert json.loads(replaced) == "".join("\ufffd" if "\ud800" <= char <= "\udfff" else char for char in expected)
    assert suspected(source) or replaced is source


def test_each_half_is_given_to_the_replacement_once() -> None:
    seen: list[bytes] = []

    def note(half: bytes) -> bytes:
        seen.append(half)
        return b"?"

    assert replace_halves(rb'"\ud800\ud83d\ude00\udc00"', note) == rb'"?\ud83d\ude00?"'
    assert seen == [b"d800", b"dc00"]


# --- errors ------------------------------------------------------------------------------------
SECRET = "sk-live-0123456789abcdef"


@pytest.mark.parametrize(
    ("answer", "kind", "message", "code"),
    [
        (
            b'{"error":{"message":"Too long","type":"invalid_request_error","code":"context_length_exceeded"}}',
            "bad_request",
            "Too long",
            "context_length_exceeded",
        ),
        (b'{"error":"model is loading"}', "bad_request", "model is loading", None),
        (b'[{"error":{"code":400,"message":"Bad","status":"INVALID_ARGUMENT"}}]', "bad_request", "Bad", None),
        (b'{"object":"error","message":"too long","type":"BadRequestError","code":400}', "bad_request", "too long", None),
        (b'{"detail":"Not valid"}', "bad_request", "Not valid", None),
        (b'{"error":{"message":"","type":"x"}}', "bad_request", "The provider refused the request.", None),
        (b"<html>", "broken", "The provider answered 400 without an error message.", None),
        (b"{}", "broken", "The provider answered 400 without an error message.", None),
    ],
)
def test_every_shape_of_error_is_read(answer: bytes, kind: str, message: str, code: str | None) -> None:
    failure = read_failure(answer, status=400)
    assert (failure.kind, failure.message, failure.code, failure.status) == (kind, message, code, 400)


@given(st.binary(max_size=80), st.none() | st.sampled_from([400, 401, 404, 429, 500, 503, 599]))
def test_no_bytes_whatever_break_the_reading_of_an_error(answer: bytes, status: int | None) -> None:
    assert read_failure(answer, status=status).message


@given(st.text(max_size=30), st.text(max_size=30), st.text(alphabet="abc123-_!?$", min_size=8, max_size=30))
def test_a_secret_in_a_providers_sentence_is_never_repeated(before: str, after: str, secret: str) -> None:
    sentence = before + secret + after
    answer = json.dumps({"error": {"message": sentence, "param": sentence, "type": sentence}}).encode()
    failure = read_failure(answer, status=500, secrets=(secret,))
    assert secret not in failure.message
    assert secret not in (failure.param or "")
    assert len(scrub(sentence * 40)) <= MAX_MESSAGE
    assert scrub(sentence).isprintable() or not sentence.isprintable()


@pytest.mark.parametrize(
    "text", [f"key {SECRET} is wrong", f"Bearer {SECRET}", "AIzaSyA1234567890", "gsk_abcdef123456", "xai-abcdef123"]
)
def test_what_looks_like_a_credential_is_hidden_though_nobody_named_it(text: str) -> None:
    assert "[redacted]" in scrub(text)
    assert "abcdef" not in scrub(text)


# --- what each kind is sent --------------------------------------------------------------------
def target(kind: str, **fields: Any) -> Target:
    base = registry.provider(kind).base_url() or "https://own.example/v1"
    return Target(1, 1, kind, kind, fields.pop("base_url", base), "m", api_key=SECRET, timeouts=Timeouts(), **fields)


ADDRESSES = {
    "openai": "https://api.openai.com/v1/chat/completions",
    "deepseek": "https://api.deepseek.com/v1/chat/completions",
    "mistral": "https://api.mistral.ai/v1/chat/completions",
    "groq": "https://api.groq.com/openai/v1/chat/completions",
    "xai": "https://api.x.ai/v1/chat/completions",
    "openrouter": "https://openrouter.ai/api/v1/chat/completions",
    "together": "https://api.together.xyz/v1/chat/completions",
    "moonshot": "https://api.moonshot.ai/v1/chat/completions",
    "ollama": "http://127.0.0.1:11434/v1/chat/completions",
    "qwen": "https://dashscope-intl.aliyuncs.com/compatible-mode/v1/chat/completions",
    "zhipu": "https://api.z.ai/api/paas/v4/chat/completions",
    "perplexity": "https://api.perplexity.ai/chat/completions",
    "deepinfra": "https://api.deepinfra.com/v1/openai/chat/completions",
    "cohere": "https://api.cohere.ai/compatibility/v1/chat/completions",
}
CHAT_KINDS = sorted(kind for kind, entry in registry.PROVIDERS.items() if chat_completions.NAME in entry.protocols)


@pytest.mark.parametrize("kind", CHAT_KINDS)
def test_each_kind_is_called_at_its_own_address(kind: str) -> None:
    address = registry.provider(kind).address(target(kind), chat_completions.PATH)
    if kind in ADDRESSES:
        assert address == ADDRESSES[kind]
    else:
        assert urlsplit(address).path.endswith("/v1/chat/completions")
    closed = msgspec.structs.replace(target(kind), base_url=target(kind).base_url + "/")
    assert registry.provider(kind).address(closed, chat_completions.PATH) == address


@pytest.mark.parametrize("kind", CHAT_KINDS)
def test_each_kind_is_asked_for_usage_and_bounded_in_the_words_it_knows(kind: str) -> None:
    provider = registry.provider(kind)
    request = chat_completions.parse(body(stream=True, stream_options={"include_usage": True}))
    sent = json.loads(chat_completions.pass_through(request, model="m", max_tokens=9, quirks=provider.quirks))
    assert ("stream_options" in sent) == (kind not in ("mistral", "cohere", "perplexity"))
    limits = {name for name in sent if name.startswith("max_")}
    assert limits == ({"max_completion_tokens"} if kind in ("openai", "azure", "groq", "cerebras") else {"max_tokens"})


def test_the_key_travels_in_one_header(run: Run) -> None:
    where = target("openai", headers={"X-Team": "blue"})
    headers = run(registry.provider("openai").credentials(where, url="https://x", body=b""))
    assert headers == {"authorization": f"Bearer {SECRET}"}


@pytest.mark.parametrize(
    ("base_url", "address"),
    [
        ("https://api.anthropic.com", "https://api.anthropic.com/v1/messages"),
        ("https://api.anthropic.com/v1/", "https://api.anthropic.com/v1/messages"),
        ("https://own.example/anthropic/", "https://own.example/anthropic/v1/messages"),
    ],
)
def test_a_provider_of_messages_is_found_below_either_base_url(base_url: str, address: str) -> None:
    assert registry.provider("anthropic").address(target("anthropic", base_url=base_url), messages.PATH) == address


def test_anthropic_is_signed_in_to_in_its_own_header(run: Run, upstream: Upstream) -> None:
    upstream.then(answer(), answer())
    where = target("anthropic", base_url=upstream.url)

    async def call(**headers: str) -> None:
        opened = await registry.provider("anthropic").open(
            where,
            path=messages.PATH,
            body=b"{}",
            stream=False,
            headers={name.replace("_", "-"): text for name, text in headers.items()},
        )
        await opened.close()

    run(call())
    run(call(anthropic_version="2026-10-21", anthropic_beta="a"))
    first, second = (received.headers for received in upstream.received)
    assert (first["x-api-key"], first["anthropic-version"]) == (SECRET, "2023-06-01")
    assert (second["anthropic-version"], second["anthropic-beta"]) == ("2026-10-21", "a")
    assert "authorization" not in first | second


@pytest.mark.parametrize(("options", "auto"), [({}, False), ({"auto_cache": True}, True), ({"auto_cache": "yes"}, False)])
def test_automatic_breakpoints_are_the_operators_choice(options: dict[str, Any], auto: bool) -> None:
    assert registry.provider("anthropic").configured(options).quirks.auto_cache is auto


AZURE = "https://own.openai.azure.com"


@pytest.mark.parametrize("base", [AZURE, f"{AZURE}/", f"{AZURE}/openai", f"{AZURE}/openai/v1/"])
@pytest.mark.parametrize(
    ("version", "path", "expected"),
    [
        (None, "/chat/completions", "/openai/v1/chat/completions"),
        ("v1", "/responses", "/openai/v1/responses"),
        ("2025-04-01-preview", "/chat/completions", "/openai/deployments/m/chat/completions?api-version=2025-04-01-preview"),
        ("2025-04-01-preview", "/responses", "/openai/responses?api-version=2025-04-01-preview"),
    ],
)
def test_azure_has_addresses_of_two_kinds(base: str, version: str | None, path: str, expected: str) -> None:
    where = target("azure", base_url=base, options={"api_version": version} if version else {})
    assert registry.provider("azure").address(where, path) == AZURE + expected


def test_azure_takes_its_key_in_a_header_of_its_own(run: Run) -> None:
    azure = registry.provider("azure")
    assert run(azure.credentials(target("azure"), url="https://x", body=b"")) == {"api-key": SECRET}
    named = msgspec.structs.replace(target("azure", options={"api_version": "2024-10-21"}), model="gpt 5/é?")
    assert "/deployments/gpt%205%2F%C3%A9%3F/chat/" in azure.address(named, chat_completions.PATH)


def test_an_installation_says_what_its_own_server_speaks() -> None:
    kind = registry.provider("openai-compatible")
    assert kind.configured({}) == kind
    both = kind.configured({"protocols": ["responses", "chat_completions"]})
    assert [both.protocol_for(name) for name in ("chat_completions", "responses", "other")] == [
        "chat_completions", "responses", "responses",
    ]  # fmt: skip
    only = registry.provider("openai").configured({"protocols": ["responses"]})
    assert only.protocol_for("chat_completions") == "responses"
    assert only.serves("chat_completions")
    with pytest.raises(registry.BadOptions):
        kind.configured({"protocols": ["telepathy"]})


def test_a_provider_without_a_key_is_sent_none(run: Run) -> None:
    keyless = Target(1, 1, "o", "ollama", "http://x/v1", "m")
    assert run(registry.provider("ollama").credentials(keyless, url="http://x", body=b"")) == {}
    assert keyless.secrets == ()


def test_a_failure_says_nothing_of_the_target() -> None:
    assert SECRET not in repr(target("openai"))
    assert SECRET in target("openai").secrets
    assert isinstance(read_failure(b"", status=500, secrets=target("openai").secrets), AttemptFailed)
