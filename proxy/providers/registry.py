"""The kinds of provider by name. To add one that speaks Chat Completions: one line here. Others bring a module."""

from typing import ClassVar

import msgspec
from django.conf import settings

from proxy.providers import openai_compatible
from proxy.providers.base import Target, Upstream
from proxy.sandbox import tokens


class UnknownKind(ValueError):
    """The catalogue names a kind of provider this version has no client for."""


class Provider(msgspec.Struct, frozen=True):
    """What distinguishes one OpenAI-compatible provider from the next.

    `url` is None where only the operator knows it. `max_tokens_field` is where a clamp is written when the
    caller set no maximum. `force_usage`: a stream reports its usage only when asked to.
    """

    kind: str
    title: str
    url: str | None = None
    key_required: bool = True
    max_tokens_field: str = "max_tokens"
    force_usage: bool = True

    protocol: ClassVar[str] = "chat_completions"

    def base_url(self) -> str | None:
        return self.url

    def default_key(self) -> str | None:
        """The key to use where the catalogue gives none."""
        return None

    async def open(self, target: Target, *, path: str, body: bytes, stream: bool) -> Upstream:
        """Raises AttemptFailed."""
        return await openai_compatible.open(target, path=path, body=body, stream=stream)


class Sandbox(Provider, frozen=True):
    """The provider that this gateway serves itself."""

    def base_url(self) -> str:
        return str(settings.SANDBOX_URL)

    def default_key(self) -> str:
        return tokens.token()


_PROVIDERS = (
    Sandbox("sandbox", "Sandbox", key_required=False),
    Provider("openai", "OpenAI", "https://api.openai.com/v1", max_tokens_field="max_completion_tokens"),
    Provider("openai-compatible", "OpenAI-compatible", key_required=False),
    Provider("ollama", "Ollama", "http://127.0.0.1:11434/v1", key_required=False),
    Provider("deepseek", "DeepSeek", "https://api.deepseek.com/v1"),
    # Mistral always sends the usage with the last chunk and takes no `stream_options`.
    Provider("mistral", "Mistral", "https://api.mistral.ai/v1", force_usage=False),
    Provider("groq", "Groq", "https://api.groq.com/openai/v1", max_tokens_field="max_completion_tokens"),
    Provider("xai", "xAI", "https://api.x.ai/v1"),
    Provider("openrouter", "OpenRouter", "https://openrouter.ai/api/v1"),
    Provider("together", "Together AI", "https://api.together.xyz/v1"),
    Provider("moonshot", "Moonshot AI", "https://api.moonshot.ai/v1"),
)
PROVIDERS: dict[str, Provider] = {entry.kind: entry for entry in _PROVIDERS}


def provider(kind: str) -> Provider:
    """Raises UnknownKind, with the kinds there are."""
    try:
        return PROVIDERS[kind]
    except KeyError:
        known = ", ".join(sorted(PROVIDERS))
        raise UnknownKind(f"{kind!r} is not a kind of provider this version can talk to; it knows {known}.") from None
