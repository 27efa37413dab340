"""A preset as the hot path knows it: a model with parameters and a system prompt, shared under one name."""

import msgspec


class Parameters(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What a call is given where its caller said nothing. `max_tokens` in output tokens."""

    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    reasoning_effort: str | None = None
    stop: tuple[str, ...] = ()


class Preset(msgspec.Struct, frozen=True):
    """Called as `preset:NAME`. `model` is a model's name, an alias or `auto`."""

    name: str
    model: str
    system: str = ""
    parameters: Parameters = Parameters()
