"""The kinds of provider by name. To add one that speaks Chat Completions: one line here. Others bring a module."""

import re
from collections.abc import Iterable
from typing import ClassVar, Self
from urllib.parse import quote, urljoin, urlsplit

import msgspec
from django.conf import settings

from proxy.errors import AttemptFailed
from proxy.protocols import (
    converse,
    gemini,
    gemini_embeddings,
    gemini_image_edits,
    gemini_images,
    gemini_speech,
    mistral_speech,
    openai_models,
    other_models,
    registry,
    responses,
    titan_embeddings,
    veo_videos,
    xai_videos,
)
from proxy.protocols.base import Quirks
from proxy.providers import aws, google_tokens, http
from proxy.providers.base import PART_OF_ADDRESS, Target, Upstream
from proxy.sandbox import tokens


class UnknownKind(ValueError):
    """The catalogue names a kind of provider this version has no client for."""


class BadOptions(ValueError):
    """The catalogue says of a provider what this version cannot do with, or leaves out what it needs."""


# How often a file may be said to be elsewhere.
MAX_MOVES = 4
# What a provider that speaks OpenAI's HTTP usually serves.
CHAT_ONLY = ("chat_completions",)
EMBEDDINGS = (*CHAT_ONLY, "embeddings")
SOUND = ("speech", "transcriptions", "translations")
VERTEX = (gemini.NAME, gemini_images.NAME, gemini_image_edits.NAME, gemini_speech.NAME)
GEMINI = (*VERTEX, gemini_embeddings.NAME, veo_videos.NAME)
BEDROCK = (converse.NAME, titan_embeddings.NAME)
ALL_OF_OPENAI = (*EMBEDDINGS, "images", "image_edits", *SOUND)
OPENAI_ITSELF = (*ALL_OF_OPENAI, "responses", "videos")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")
# What the gateway writes itself, or has checked: nothing that is taken on trust may stand in its place.
_OURS = frozenset({
    "model", "messages", "input", "contents", "stream", "stream_options", "n", "max_tokens", "max_completion_tokens",
    "max_output_tokens", "generationConfig", "generation_config", "modalities", "tools", "store", *other_models.MEMBERS,
})  # fmt: skip


class Provider(msgspec.Struct, frozen=True):
    """What distinguishes one provider from the next: base URL, sign-in, protocols, quirks.

    `url` is None where only the operator knows it. `protocols` are those it speaks itself, the one that chat of other
    protocols is translated to first. Kinds that sign in otherwise override `credentials`, those with addresses of
    their own `address`.

    Options: `protocols` in place of the kind's; `takes`, names of members beyond the protocol that this installation's
    provider understands besides those of its kind; where `caches_by_marks`, `auto_cache`: cache breakpoints are set where
    the caller set none.
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
    caches_by_marks: bool = False

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
        """With what an installation says of its own provider. Raises BadOptions.

        So a provider whose models are served by Responses only, or a server that speaks more than most, needs no kind.
        """
        for name in (*self.required_options, *(name for name in self.options_of_key if name in options)):
            if not isinstance(options.get(name), str) or not PART_OF_ADDRESS.fullmatch(str(options[name])):
                raise BadOptions(f"a provider of kind {self.kind} needs the option {name}: letters, digits, - . :")
        quirks = msgspec.structs.replace(
            self.quirks,
            auto_cache=self.caches_by_marks and options.get("auto_cache") is True,
            takes=self.quirks.takes | _names(options.get("takes", ())),
        )
        told = msgspec.structs.replace(self, quirks=quirks)
        chosen = options.get("protocols")
        if chosen is None:
            return told
        spoken = registry.PROVIDERS.keys() | registry.MEDIA.keys()
        if not isinstance(chosen, list) or not chosen or not all(isinstance(name, str) and name in spoken for name in chosen):
            known = ", ".join(sorted(spoken))
            raise BadOptions(f"options.protocols must list protocols that providers speak: {known}.")
        return msgspec.structs.replace(told, protocols=tuple(chosen))

    def protocol_for(self, protocol: str, *, calling: str = "") -> str:
        """What this provider is spoken to in, for a caller who speaks `protocol`. `calling`: a model that is given tools."""
        if protocol in self.protocols:
            return protocol
        if protocol in registry.CHAT_CALLERS:
            in_responses = responses.NAME in self.protocols and openai_models.calls_in_responses(calling)
            return responses.NAME if in_responses else self.protocols[0]
        return registry.media_for(protocol, spoken=self.protocols) or self.protocols[0]

    def serves(self, protocol: str) -> bool:
        """Whether calls of a protocol can go here: spoken here, or translated."""
        if protocol in self.protocols:
            return True
        if protocol in registry.CHAT_CALLERS:
            return self.protocols[0] in registry.CHAT_PROVIDERS
        return registry.media_for(protocol, spoken=self.protocols) is not None

    def makes(self, kind: str) -> bool:
        """Whether models of a kind can be called here at all; an empty kind is an unknown one."""
        return not kind or any(self.serves(protocol) for protocol in registry.KINDS[kind])

    def address(self, target: Target, path: str) -> str:
        return target.base_url.rstrip("/") + path

    async def credentials(self, target: Target, *, url: str, body: bytes) -> dict[str, str]:
        """The headers that sign a request in. Raises AttemptFailed where that takes asking somebody who does not answer."""
        return {"authorization": f"Bearer {target.api_key}"} if target.api_key else {}

    async def _signed_in(self, target: Target, *, url: str, body: bytes) -> dict[str, str]:
        """The same. Raises AttemptFailed as well where the key was never set: a request without one would only be refused."""
        if target.unset_variable:
            unset = f"the environment variable {target.unset_variable} is not set"
            raise AttemptFailed("auth", f"The gateway has no key for the provider {target.provider_name}: {unset}.")
        return await self.credentials(target, url=url, body=body)

    async def open(
        self, target: Target, *, path: str, body: bytes, stream: bool | None, headers: dict[str, str] | None = None
    ) -> Upstream:
        """`headers`: the caller's own, in lower case. Raises AttemptFailed."""
        url = self.address(target, path)
        signed = await self._signed_in(target, url=url, body=body)
        return await http.open(target, url=url, headers={**(headers or {}), **signed}, body=body, stream=stream)

    async def ask(self, target: Target, *, method: str, path: str) -> Upstream:
        """About something that was made before: a request without a body, an answer of any type. Raises AttemptFailed."""
        url = self.address(target, path)
        signed = await self._signed_in(target, url=url, body=b"")
        return await http.open(target, method=method, url=url, headers={"accept": "*/*", **signed}, body=b"", stream=False)

    async def fetch(self, target: Target, *, url: str) -> Upstream:
        """A file whose address this provider has told. Its key goes to its own host only; any other must be a public one, and
        speak TLS. Raises AttemptFailed, without a word of such another one."""
        url, host = _resolved(url)
        _, home = _resolved(self.address(target, ""))
        for _ in range(MAX_MOVES):
            at, signed = target, {}
            if host == home:
                signed = await self._signed_in(target, url=url, body=b"")
            elif url.startswith("https://"):
                at = msgspec.structs.replace(target, headers={}, is_tenants=True)
            else:
                raise AttemptFailed("broken", "The provider named an address that is not fetched from.")
            headers = {"accept": "*/*", **signed}
            try:
                answer = await http.open(at, method="GET", url=url, headers=headers, body=b"", stream=False, may_move=True)
            except AttemptFailed as failure:
                if host == home:
                    raise
                raise said_elsewhere(failure) from failure
            if answer.status == 200:
                return answer
            await answer.close()
            url, host = _resolved(answer.headers["location"], base=url)
        raise AttemptFailed("broken", "The provider's file moves from address to address.")


def said_elsewhere(failure: AttemptFailed) -> AttemptFailed:
    """What a host that is not the provider's says of a file is told in a sentence of ours: nobody knows whose words its are."""
    if failure.status is None:
        return failure  # said by the gateway: nobody answered
    return AttemptFailed("broken", f"Where the provider keeps the file, {failure.status} is answered.", status=failure.status)


def _resolved(url: str, *, base: str = "") -> tuple[str, tuple[str, str]]:
    """The whole address, and its scheme and host. Raises AttemptFailed for what is none."""
    try:
        whole = urljoin(base, url)
        parts = urlsplit(whole)
    except ValueError as error:
        raise AttemptFailed("broken", "The provider named an address that is none.") from error
    return whole, (parts.scheme, parts.netloc)


def _names(given: object) -> frozenset[str]:
    """Raises BadOptions."""
    if not isinstance(given, Iterable) or isinstance(given, str):
        raise BadOptions("options.takes must list names of members.")
    names = [name for name in given if isinstance(name, str) and _NAME.fullmatch(name) and name not in _OURS]
    if len(names) != len(list(given)):
        raise BadOptions("options.takes must list names of members that the gateway does not write itself.")
    return frozenset(names)


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
    """Speaks Messages. `base_url` with or without `/v1`, as its own SDK and others want it."""

    VERSION: ClassVar[str] = "2023-06-01"

    def address(self, target: Target, path: str) -> str:
        return target.base_url.rstrip("/").removesuffix("/v1") + path

    async def credentials(self, target: Target, *, url: str, body: bytes) -> dict[str, str]:
        return {"x-api-key": target.api_key} if target.api_key else {}

    async def open(
        self, target: Target, *, path: str, body: bytes, stream: bool | None, headers: dict[str, str] | None = None
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
        self, target: Target, *, path: str, body: bytes, stream: bool | None, headers: dict[str, str] | None = None
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
        self, target: Target, *, path: str, body: bytes, stream: bool | None, headers: dict[str, str] | None = None
    ) -> Upstream:
        accept = {"accept": converse.STREAM_TYPE} if stream else {}
        return await super().open(target, path=path, body=body, stream=stream, headers={**(headers or {}), **accept})


COMPLETION_TOKENS = Quirks(max_tokens_field="max_completion_tokens")
OPENAI = Quirks(max_tokens_field="max_completion_tokens", bounds_ids=True)
THOUGHT_RETURNED = Quirks(returns_reasoning=True)
# Always reports the usage of a stream, and refuses to be asked for it.
UNASKED_USAGE = Quirks(force_usage=False)
# Ways to draw the next token that servers of open models have besides OpenAI's.
SAMPLING = frozenset({"top_k", "min_p", "repetition_penalty"})
TEMPLATE = frozenset({"chat_template_kwargs"})
DRAWS = Quirks(takes=SAMPLING)
# https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html#extra-parameters
VLLM = Quirks(
    takes=SAMPLING
    | TEMPLATE
    | {"min_tokens", "length_penalty", "stop_token_ids", "ignore_eos", "skip_special_tokens", "structured_outputs", "bad_words"}
)
# https://docs.perplexity.ai/api-reference/chat-completions-post
PERPLEXITY = frozenset({"top_k", "search_domain_filter", "search_recency_filter", "search_mode", "return_related_questions"})
# https://docs.mistral.ai/api: unknown members are refused.
MISTRAL = Quirks(
    force_usage=False,
    seed_field="random_seed",
    takes=frozenset({"safe_prompt", "prompt_mode"}),
    lacks=frozenset({"user", "logit_bias", "verbosity", "prompt_cache_key"}),
)
# https://openrouter.ai/docs/api-reference/parameters, https://openrouter.ai/docs/features/prompt-caching
OPENROUTER = Quirks(takes=SAMPLING | {"top_a"}, cache_marks=True)
_PROVIDERS = (
    Sandbox("sandbox", "Sandbox", key_required=False, protocols=ALL_OF_OPENAI),
    Provider("openai", "OpenAI", "https://api.openai.com/v1", quirks=OPENAI, protocols=OPENAI_ITSELF),
    Azure("azure", "Azure OpenAI", quirks=OPENAI, protocols=OPENAI_ITSELF),
    Anthropic(
        "anthropic",
        "Anthropic",
        "https://api.anthropic.com",
        protocols=("messages",),
        quirks=Quirks(needs_max_tokens=True),
        caches_by_marks=True,
    ),
    Gemini("gemini", "Google Gemini", "https://generativelanguage.googleapis.com/v1beta", protocols=GEMINI),
    Vertex("vertex", "Google Vertex AI", protocols=VERTEX, required_options=("region",), options_of_key=("project",)),
    Bedrock("bedrock", "Amazon Bedrock", protocols=BEDROCK, required_options=("region",), caches_by_marks=True),
    Provider("deepseek", "DeepSeek", "https://api.deepseek.com/v1", quirks=THOUGHT_RETURNED),
    Provider(
        "mistral",
        "Mistral",
        "https://api.mistral.ai/v1",
        quirks=MISTRAL,
        protocols=(*EMBEDDINGS, "transcriptions", mistral_speech.NAME),
    ),
    Provider("xai", "xAI", "https://api.x.ai/v1", protocols=(*CHAT_ONLY, "images", xai_videos.NAME)),
    Provider("groq", "Groq", "https://api.groq.com/openai/v1", quirks=COMPLETION_TOKENS, protocols=(*CHAT_ONLY, *SOUND)),
    Provider(
        "openrouter",
        "OpenRouter",
        "https://openrouter.ai/api/v1",
        protocols=EMBEDDINGS,
        quirks=OPENROUTER,
        caches_by_marks=True,
    ),
    Provider("together", "Together AI", "https://api.together.xyz/v1", quirks=DRAWS, protocols=(*EMBEDDINGS, "images", *SOUND)),
    Provider("moonshot", "Moonshot AI", "https://api.moonshot.ai/v1", quirks=THOUGHT_RETURNED),
    # Outside China; accounts in China have https://dashscope.aliyuncs.com/compatible-mode/v1.
    Provider(
        "qwen",
        "Alibaba Qwen",
        "https://dashscope-intl.aliyuncs.com/compatible-mode/v1",
        protocols=EMBEDDINGS,
        quirks=Quirks(takes=frozenset({"top_k", "enable_thinking", "thinking_budget"})),
    ),
    # Outside China; accounts in China have https://open.bigmodel.cn/api/paas/v4.
    Provider(
        "zhipu",
        "Z.ai (Zhipu)",
        "https://api.z.ai/api/paas/v4",
        protocols=EMBEDDINGS,
        quirks=Quirks(takes=frozenset({"do_sample", "thinking"})),
    ),
    Provider("minimax", "MiniMax", "https://api.minimax.io/v1"),
    Provider("cohere", "Cohere", "https://api.cohere.ai/compatibility/v1", quirks=UNASKED_USAGE, protocols=EMBEDDINGS),
    Provider("perplexity", "Perplexity", "https://api.perplexity.ai", quirks=Quirks(force_usage=False, takes=PERPLEXITY)),
    Provider("fireworks", "Fireworks AI", "https://api.fireworks.ai/inference/v1", quirks=DRAWS, protocols=EMBEDDINGS),
    Provider("cerebras", "Cerebras", "https://api.cerebras.ai/v1", quirks=COMPLETION_TOKENS),
    Provider("nvidia", "NVIDIA NIM", "https://integrate.api.nvidia.com/v1", protocols=EMBEDDINGS),
    Provider("huggingface", "Hugging Face", "https://router.huggingface.co/v1"),
    Provider("deepinfra", "DeepInfra", "https://api.deepinfra.com/v1/openai", quirks=DRAWS, protocols=EMBEDDINGS),
    Provider("novita", "Novita AI", "https://api.novita.ai/openai/v1", quirks=DRAWS, protocols=EMBEDDINGS),
    Provider("nebius", "Nebius", "https://api.tokenfactory.nebius.com/v1", protocols=EMBEDDINGS),
    Provider("ollama", "Ollama", "http://127.0.0.1:11434/v1", key_required=False, protocols=EMBEDDINGS),
    Provider("vllm", "vLLM", "http://127.0.0.1:8000/v1", key_required=False, quirks=VLLM, protocols=(*EMBEDDINGS, *SOUND[1:])),
    Provider(
        "lmstudio",
        "LM Studio",
        "http://127.0.0.1:1234/v1",
        key_required=False,
        quirks=Quirks(takes=frozenset({"top_k", "repeat_penalty"})),
        protocols=EMBEDDINGS,
    ),
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
