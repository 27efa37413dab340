"""The kinds of provider by name. To add one that speaks Chat Completions: one line here. Others bring a module."""

from typing import ClassVar, Self
from urllib.parse import quote

import msgspec
from django.conf import settings

from proxy.errors import AttemptFailed
from proxy.protocols import converse, gemini, registry
from proxy.protocols.base import Quirks
from proxy.providers import aws, google_tokens, http
from proxy.providers.base import PART_OF_ADDRESS, Target, Upstream
from proxy.sandbox import tokens


class UnknownKind(ValueError):
    """The catalogue names a kind of provider this version has no client for."""


class BadOptions(ValueError):
    """The catalogue says of a provider what this version cannot do with, or leaves out what it needs."""


# What a provider that speaks OpenAI's HTTP usually serves.
CHAT_ONLY = ("chat_completions",)
EMBEDDINGS = (*CHAT_ONLY, "embeddings")
SOUND = ("speech", "transcriptions", "translations")
ALL_OF_OPENAI = (*EMBEDDINGS, "images", "image_edits", *SOUND)
OPENAI_ITSELF = (*ALL_OF_OPENAI, "responses", "videos")


class Provider(msgspec.Struct, frozen=True):
    """What distinguishes one provider from the next: base URL, sign-in, protocols, quirks.

    `url` is None where only the operator knows it. `protocols` are those it speaks itself, the one that chat of other
    protocols is translated to first. Kinds that sign in otherwise override `credentials`, those with addresses of
    their own `address`.
    """

    kind: str
    title: str
    url: str | None = None
    key_required: bool = True
    protocols: tuple[str, ...] = CHAT_ONLY
    quirks: Quirks = Quirks()
    # Options without which it has no address (`configured` checks them), and those that go with the operator's key only.
    required_options: tuple[str, ...] = ()
    options_of_key: tuple[str, ...] = ()

    def base_url(self) -> str | None:
        return self.url

    @property
    def needs_address(self) -> bool:
        """Whether only its customer knows where it is: neither the kind nor its options say."""
        return self.base_url() is None and not self.required_options

    def default_key(self) -> str | None:
        """The key to use where the catalogue gives none."""
        return None

    def configured(self, options: dict[str, object]) -> Self:
        """With what an installation says of its own provider: `protocols` in place of the kind's. Raises BadOptions.

        So a provider whose models are served by Responses only, or a server that speaks more than most, needs no kind.
        """
        for name in (*self.required_options, *(name for name in self.options_of_key if name in options)):
            if not isinstance(options.get(name), str) or not PART_OF_ADDRESS.fullmatch(str(options[name])):
                raise BadOptions(f"a provider of kind {self.kind} needs the option {name}: letters, digits, - . :")
        chosen = options.get("protocols")
        if chosen is None:
            return self
        if not isinstance(chosen, list) or not chosen or not all(name in registry.PROVIDERS for name in chosen):
            known = ", ".join(sorted(registry.PROVIDERS))
            raise BadOptions(f"options.protocols must list protocols that providers speak: {known}.")
        return msgspec.structs.replace(self, protocols=tuple(chosen))

    def protocol_for(self, protocol: str) -> str:
        """What this provider is spoken to in, for a caller who speaks `protocol`."""
        return protocol if protocol in self.protocols else self.protocols[0]

    def serves(self, protocol: str) -> bool:
        """Whether calls of a protocol can go here: spoken here, or translated."""
        return protocol in self.protocols or (protocol in registry.CHAT_CALLERS and self.protocols[0] in registry.CHAT_PROVIDERS)

    def makes(self, kind: str) -> bool:
        """Whether models of a kind can be called here at all; an empty kind is an unknown one."""
        return not kind or any(self.serves(protocol) for protocol in registry.KINDS[kind])

    def address(self, target: Target, path: str) -> str:
        return target.base_url.rstrip("/") + path

    async def credentials(self, target: Target, *, url: str, body: bytes) -> dict[str, str]:
        """The headers that sign a request in. Raises AttemptFailed where that takes asking somebody who does not answer."""
        return {"authorization": f"Bearer {target.api_key}"} if target.api_key else {}

    async def open(
        self, target: Target, *, path: str, body: bytes, stream: bool, headers: dict[str, str] | None = None
    ) -> Upstream:
        """`headers`: the caller's own, in lower case. Raises AttemptFailed."""
        url = self.address(target, path)
        signed = await self.credentials(target, url=url, body=body)
        return await http.open(target, url=url, headers={**(headers or {}), **signed}, body=body, stream=stream)

    async def ask(self, target: Target, *, method: str, path: str) -> Upstream:
        """About something that was made before: a request without a body, an answer of any type. Raises AttemptFailed."""
        url = self.address(target, path)
        signed = await self.credentials(target, url=url, body=b"")
        return await http.open(target, method=method, url=url, headers={"accept": "*/*", **signed}, body=b"", stream=False)


class Azure(Provider, frozen=True):
    """OpenAI's models in a customer's own Azure resource: `https://NAME.openai.azure.com`.

    Without `options.api_version` (or with `v1`) the addresses are those of the v1 surface, which are OpenAI's own below
    `/openai/v1`. With a dated version a deployment stands in the path, but for Responses and Videos, where it is the body's
    `model`.
    https://learn.microsoft.com/azure/ai-services/openai/reference
    """

    def address(self, target: Target, path: str) -> str:
        root = target.base_url.rstrip("/").removesuffix("/v1").removesuffix("/openai") + "/openai"
        version = str(target.options.get("api_version") or "v1")
        if version == "v1":
            return f"{root}/v1{path}"
        place = "" if path.startswith(("/responses", "/videos")) else f"/deployments/{quote(target.model, safe='')}"
        return f"{root}{place}{path}{'&' if '?' in path else '?'}api-version={quote(version)}"

    async def credentials(self, target: Target, *, url: str, body: bytes) -> dict[str, str]:
        return {"api-key": target.api_key} if target.api_key else {}


class Sandbox(Provider, frozen=True):
    """The provider that this gateway serves itself."""

    def base_url(self) -> str:
        return str(settings.SANDBOX_URL)

    def default_key(self) -> str:
        return tokens.token()


class Anthropic(Provider, frozen=True):
    """Speaks Messages. `base_url` with or without `/v1`, as its own SDK and others want it.

    Option `auto_cache`: cache breakpoints are set where the caller set none.
    """

    VERSION: ClassVar[str] = "2023-06-01"

    def configured(self, options: dict[str, object]) -> Self:
        quirks = msgspec.structs.replace(self.quirks, auto_cache=options.get("auto_cache") is True)
        return msgspec.structs.replace(super().configured(options), quirks=quirks)

    def address(self, target: Target, path: str) -> str:
        return target.base_url.rstrip("/").removesuffix("/v1") + path

    async def credentials(self, target: Target, *, url: str, body: bytes) -> dict[str, str]:
        return {"x-api-key": target.api_key} if target.api_key else {}

    async def open(
        self, target: Target, *, path: str, body: bytes, stream: bool, headers: dict[str, str] | None = None
    ) -> Upstream:
        """The version of the protocol is the caller's, if it names one."""
        named = {"anthropic-version": self.VERSION} | (headers or {})
        return await super().open(target, path=path, body=body, stream=stream, headers=named)


class Gemini(Provider, frozen=True):
    async def credentials(self, target: Target, *, url: str, body: bytes) -> dict[str, str]:
        return {"x-goog-api-key": target.api_key} if target.api_key else {}


class Vertex(Provider, frozen=True):
    """Google's models in a customer's own project. The key is a service account's key file, or an access token."""

    def address(self, target: Target, path: str) -> str:
        """`base_url` stands in for Google's own host; the project and the region are in the path all the same."""
        region, project = target.options["region"], google_tokens.project(target)
        host = "https://aiplatform.googleapis.com" if region == "global" else f"https://{region}-aiplatform.googleapis.com"
        root = target.base_url.rstrip("/") or f"{host}/v1"
        return f"{root}/projects/{project}/locations/{region}/publishers/google{path}"

    async def credentials(self, target: Target, *, url: str, body: bytes) -> dict[str, str]:
        return {"authorization": f"Bearer {await google_tokens.token(target)}"}

    async def open(
        self, target: Target, *, path: str, body: bytes, stream: bool, headers: dict[str, str] | None = None
    ) -> Upstream:
        try:
            return await super().open(target, path=path, body=body, stream=stream, headers=headers)
        except AttemptFailed as error:
            if error.kind == "auth":
                google_tokens.forget(target)
            raise


class Bedrock(Provider, frozen=True):
    """Amazon's runtime of a region. The key is `KEY_ID:SECRET[:SESSION_TOKEN]`, or a Bedrock API key."""

    def address(self, target: Target, path: str) -> str:
        region = str(target.options["region"])
        domain = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
        return (target.base_url.rstrip("/") or f"https://bedrock-runtime.{region}.{domain}") + path

    async def credentials(self, target: Target, *, url: str, body: bytes) -> dict[str, str]:
        return await aws.sign_in(target.api_key or "", region=str(target.options["region"]), url=url, body=body)

    async def open(
        self, target: Target, *, path: str, body: bytes, stream: bool, headers: dict[str, str] | None = None
    ) -> Upstream:
        accept = {"accept": converse.STREAM_TYPE} if stream else {}
        return await super().open(target, path=path, body=body, stream=stream, headers={**(headers or {}), **accept})


COMPLETION_TOKENS = Quirks(max_tokens_field="max_completion_tokens")
THOUGHT_RETURNED = Quirks(returns_reasoning=True)
# Always reports the usage of a stream, and refuses to be asked for it.
UNASKED_USAGE = Quirks(force_usage=False)
_PROVIDERS = (
    Sandbox("sandbox", "Sandbox", key_required=False, protocols=ALL_OF_OPENAI),
    Provider("openai", "OpenAI", "https://api.openai.com/v1", quirks=COMPLETION_TOKENS, protocols=OPENAI_ITSELF),
    Azure("azure", "Azure OpenAI", quirks=COMPLETION_TOKENS, protocols=OPENAI_ITSELF),
    Anthropic(
        "anthropic", "Anthropic", "https://api.anthropic.com", protocols=("messages",), quirks=Quirks(needs_max_tokens=True)
    ),
    Gemini("gemini", "Google Gemini", "https://generativelanguage.googleapis.com/v1beta", protocols=(gemini.NAME,)),
    Vertex("vertex", "Google Vertex AI", protocols=(gemini.NAME,), required_options=("region",), options_of_key=("project",)),
    Bedrock("bedrock", "Amazon Bedrock", protocols=(converse.NAME,), required_options=("region",)),
    Provider("deepseek", "DeepSeek", "https://api.deepseek.com/v1", quirks=THOUGHT_RETURNED),
    Provider("mistral", "Mistral", "https://api.mistral.ai/v1", quirks=UNASKED_USAGE, protocols=(*EMBEDDINGS, "transcriptions")),
    Provider("xai", "xAI", "https://api.x.ai/v1", protocols=(*CHAT_ONLY, "images")),
    Provider("groq", "Groq", "https://api.groq.com/openai/v1", quirks=COMPLETION_TOKENS, protocols=(*CHAT_ONLY, *SOUND)),
    Provider("openrouter", "OpenRouter", "https://openrouter.ai/api/v1", protocols=EMBEDDINGS),
    Provider("together", "Together AI", "https://api.together.xyz/v1", protocols=(*EMBEDDINGS, "images", *SOUND)),
    Provider("moonshot", "Moonshot AI", "https://api.moonshot.ai/v1", quirks=THOUGHT_RETURNED),
    # Outside China; accounts in China have https://dashscope.aliyuncs.com/compatible-mode/v1.
    Provider("qwen", "Alibaba Qwen", "https://dashscope-intl.aliyuncs.com/compatible-mode/v1", protocols=EMBEDDINGS),
    # Outside China; accounts in China have https://open.bigmodel.cn/api/paas/v4.
    Provider("zhipu", "Z.ai (Zhipu)", "https://api.z.ai/api/paas/v4", protocols=EMBEDDINGS),
    Provider("minimax", "MiniMax", "https://api.minimax.io/v1"),
    Provider("cohere", "Cohere", "https://api.cohere.ai/compatibility/v1", quirks=UNASKED_USAGE, protocols=EMBEDDINGS),
    Provider("perplexity", "Perplexity", "https://api.perplexity.ai", quirks=UNASKED_USAGE),
    Provider("fireworks", "Fireworks AI", "https://api.fireworks.ai/inference/v1", protocols=EMBEDDINGS),
    Provider("cerebras", "Cerebras", "https://api.cerebras.ai/v1", quirks=COMPLETION_TOKENS),
    Provider("nvidia", "NVIDIA NIM", "https://integrate.api.nvidia.com/v1", protocols=EMBEDDINGS),
    Provider("huggingface", "Hugging Face", "https://router.huggingface.co/v1"),
    Provider("deepinfra", "DeepInfra", "https://api.deepinfra.com/v1/openai", protocols=EMBEDDINGS),
    Provider("novita", "Novita AI", "https://api.novita.ai/openai/v1", protocols=EMBEDDINGS),
    Provider("nebius", "Nebius", "https://api.tokenfactory.nebius.com/v1", protocols=EMBEDDINGS),
    Provider("ollama", "Ollama", "http://127.0.0.1:11434/v1", key_required=False, protocols=EMBEDDINGS),
    Provider("vllm", "vLLM", "http://127.0.0.1:8000/v1", key_required=False, protocols=(*EMBEDDINGS, *SOUND[1:])),
    Provider("lmstudio", "LM Studio", "http://127.0.0.1:1234/v1", key_required=False, protocols=EMBEDDINGS),
    Provider("openai-compatible", "OpenAI-compatible", key_required=False, protocols=ALL_OF_OPENAI),
)
PROVIDERS: dict[str, Provider] = {entry.kind: entry for entry in _PROVIDERS}


def provider(kind: str) -> Provider:
    """Raises UnknownKind, with the kinds there are."""
    try:
        return PROVIDERS[kind]
    except KeyError:
        known = ", ".join(sorted(PROVIDERS))
        raise UnknownKind(f"{kind!r} is not a kind of provider this version can talk to; it knows {known}.") from None
