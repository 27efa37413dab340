"""What OpenAI's models take, by their names."""

import json
from typing import Any

import pytest

from proxy.canonical.conversation import Conversation, Message, Reasoning, Text
from proxy.protocols import chat_completions, openai_models, responses
from proxy.protocols.base import Quirks
from proxy.providers import registry


@pytest.mark.parametrize(
    ("model", "version", "in_responses"),
    [
        ("gpt-35-turbo", None, False),
        ("gpt-35-turbo-16k", None, False),
        ("azure/gpt-35-turbo-instruct", None, False),
        ("gpt-3.5-turbo-0125", None, False),
        ("gpt-4.1", None, False),
        ("gpt-4o-mini", None, False),
        ("gpt-oss-120b", None, False),
        ("gpt-5-chat-latest", None, False),
        ("o4-mini", (5, 0), False),
        ("gpt-5", (5, 0), False),
        ("gpt-5-2025-08-07", (5, 0), False),
        ("gpt-5.1-codex", (5, 1), False),
        ("gpt-5.4-nano", (5, 4), True),
        ("openai/gpt-5.6-luna", (5, 6), True),
        ("gpt-6.1-sol", (6, 1), True),
        ("claude-opus-5", None, False),
        ("somebody-s-own", None, False),
    ],
)
def test_a_model_is_known_by_its_name(model: str, version: Any, in_responses: bool) -> None:
    assert openai_models.version(model) == version
    assert openai_models.calls_in_responses(model) == in_responses
    assert not openai_models.always_searches(model)


@pytest.mark.parametrize(
    "model",
    ["gpt-4o-search-preview", "openai/gpt-4o-mini-search-preview-2025-03-11", "gpt-5-search-api", "gpt-5-search-api-2025-10-14"],
)
def test_a_model_that_always_searches_is_known_by_its_name(model: str) -> None:
    assert openai_models.always_searches(model)


@pytest.mark.parametrize(
    ("model", "reasoning", "samples"),
    [
        ("gpt-4.1", None, True),
        ("gpt-35-turbo", None, True),
        ("o4-mini", None, False),
        ("gpt-5", None, False),
        ("gpt-5.2", None, True),
        ("gpt-5.2", Reasoning("low"), False),
        ("gpt-5.6-sol", None, False),
        ("gpt-5.6-sol", Reasoning("none"), True),
        ("gpt-6.1-sol", Reasoning(budget_tokens=9000), False),
    ],
)
def test_a_model_that_thinks_is_told_no_sampling(model: str, reasoning: Reasoning | None, samples: bool) -> None:
    """`Only the default (1) value is supported`"""
    asked = Conversation(messages=(Message("user", (Text("?"),)),), reasoning=reasoning, temperature=0.2, top_p=0.9)
    for codec in (chat_completions, responses):
        request = codec.write_request(asked, model=model, stream=False, max_tokens=None, quirks=Quirks())
        sent = json.loads(request.body)
        assert [name in sent for name in ("temperature", "top_p")] == [samples, samples]
        assert set(request.unsaid) == (set() if samples else {"temperature", "top_p"})


@pytest.mark.parametrize("kind", ["openai", "azure"])
def test_tools_are_given_in_responses_to_models_that_call_them_there(kind: str) -> None:
    provider = registry.provider(kind)
    assert provider.protocol_for("messages", calling="gpt-6.1-sol") == "responses"
    assert provider.protocol_for("messages", calling="gpt-4.1") == "chat_completions"
    assert provider.protocol_for("messages") == "chat_completions"
    assert provider.protocol_for("chat_completions", calling="gpt-6.1-sol") == "chat_completions"
    only = provider.configured({"protocols": ["chat_completions"], "api_version": "v1"})
    assert only.protocol_for("messages", calling="gpt-6.1-sol") == "chat_completions"
    assert registry.provider("openrouter").protocol_for("messages", calling="openai/gpt-6.1-sol") == "chat_completions"
