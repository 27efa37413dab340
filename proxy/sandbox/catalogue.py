"""The sandbox's models: those that answer, at the speed and price of real ones, and those that fail on purpose."""

from typing import Literal

import msgspec

Behaviour = Literal[
    "answer", "error", "slow", "hang", "stall", "disconnect", "stream_error", "html", "empty", "no_usage", "cached", "reasoning"
]


class SandboxModel(msgspec.Struct, frozen=True):
    """Prices in USD per million tokens, as text; or those of `unit_prices`, by the word that the catalogue file has for each.

    `status` and `code` are what an `error` model answers.
    """

    name: str
    description: str
    behaviour: Behaviour = "answer"
    first_token_seconds: float = 0.25
    tokens_per_second: float = 90
    context_window: int = 128_000
    max_output_tokens: int = 16_384
    input_usd: str = "0.50"
    cached_input_usd: str = "0.05"
    output_usd: str = "1.50"
    status: int = 200
    code: str | None = None
    kind: Literal["chat", "embedding", "image", "speech", "transcription"] = "chat"
    unit_prices: dict[str, str] = {}

    @property
    def price(self) -> dict[str, str]:
        """As the catalogue file declares it."""
        return self.unit_prices or {"input": self.input_usd, "cached_input": self.cached_input_usd, "output": self.output_usd}


AT_ONCE = float("inf")

_MODELS = (
    SandboxModel("sandbox-fast", "Small and quick", "answer", 0.15, 160, 128_000, 16_384, "0.10", "0.01", "0.40"),
    SandboxModel("sandbox-standard", "The everyday model"),
    SandboxModel("sandbox-large", "Large, slow and dear", "answer", 0.6, 45, 200_000, 32_768, "3.00", "0.30", "15.00"),
    SandboxModel(
        "sandbox-reasoning", "Thinks before it answers", "reasoning", 0.8, 110, 200_000, 65_536, "1.10", "0.275", "4.40"
    ),
    SandboxModel("sandbox-instant", "Answers without delay", "answer", 0, AT_ONCE, 128_000, 16_384, "0.10", "0.01", "0.40"),
    SandboxModel("sandbox-cached", "Half of the prompt comes from the cache", "cached"),
    SandboxModel("sandbox-no-usage", "Reports no usage", "no_usage", 0, AT_ONCE),
    SandboxModel("sandbox-slow", "The first byte comes after five seconds", "slow", 5.0),
    SandboxModel("sandbox-hang", "Never answers", "hang"),
    SandboxModel("sandbox-stall", "Stops in the middle and keeps the connection open", "stall"),
    SandboxModel("sandbox-disconnect", "Closes the connection in the middle", "disconnect"),
    SandboxModel("sandbox-stream-error", "Reports an error in the middle of a stream", "stream_error"),
    SandboxModel("sandbox-html", "Answers with an HTML page", "html"),
    SandboxModel("sandbox-empty", "Answers with an empty body", "empty"),
    SandboxModel("sandbox-error-400", "Refuses the request", "error", status=400, code="context_length_exceeded"),
    SandboxModel("sandbox-error-401", "Refuses the gateway's key", "error", status=401, code="invalid_api_key"),
    SandboxModel(
        "sandbox-error-429", "Is rate limited: retry after two seconds", "error", status=429, code="rate_limit_exceeded"
    ),
    SandboxModel("sandbox-error-500", "Fails", "error", status=500, code="internal_error"),
    SandboxModel("sandbox-embedding", "Vectors of texts", kind="embedding", unit_prices={"input": "0.02"}),
    SandboxModel("sandbox-image", "Small pictures", kind="image", unit_prices={"image": "0.04"}),
    SandboxModel("sandbox-speech", "A tone as long as the text", kind="speech", unit_prices={"character": "0.000015"}),
    SandboxModel("sandbox-transcription", "Words for each second", kind="transcription", unit_prices={"second": "0.0001"}),
)
MODELS: dict[str, SandboxModel] = {model.name: model for model in _MODELS}


def catalogue() -> list[SandboxModel]:
    """All models, to be declared in the operator's catalogue."""
    return list(_MODELS)
