"""A call as its caller asked for it, whatever the protocol: what the gateway reads is typed, the rest stays raw JSON.

So what the gateway does not read goes to a provider of the same protocol byte for byte. A call that goes to a provider
of another protocol is read further, into a `conversation.Conversation`.
"""

from typing import Literal

import msgspec

from proxy.canonical.usage import Usage

# What of the prompt the caller asks to be written to a provider's cache: nothing, for minutes only, or also for an hour.
CacheMarks = Literal["none", "short", "any"]


class Request(msgspec.Struct):
    """One call as the caller asked for it.

    `fields` holds the top-level members as raw JSON in the caller's order (of a name given twice, the last
    value: what the gateway checked is what the provider gets). `input_tokens_estimate` is meant as an upper bound of what was
    sent, `reserve_tokens` of what may be read besides (what tools of the provider find, documents behind an address): money
    is held for both, and only the first is ever charged by estimate. So it is with `units`, and `reserve_units`: what the
    provider may count besides (its own searches).
    `kind` is the kind of model that can serve it. `headers` go on to a provider of the same protocol. `text_only`: neither
    what is asked nor what is answered can hold anything but text. `tool_needs` are the capabilities that its tools need of a
    model; `schema`: the answer must be JSON of a given one; `reasons`: thinking is asked for; `modalities` is what the
    answer shall hold besides text (`audio`, `image`). Of what is not chat: `output_bound` is the most tokens that each of
    `n` answers can have, whatever the model's maximum, and `units` how many units of what is no token it can cost at most.
    `drawings`: the most pictures that another model may draw for the one that answers, by a tool of its provider's.
    `resolution` is that of the film (`720p`), '' where its caller leaves it to the provider.
    `usual` is billed where the provider reports nothing. `form` is a body that came as a form, its type in `headers`.
    `store`: the caller asks for the answer to be kept, and `previous` names a kept one that this call goes on from.
    `told` are members that the answer must say whatever its provider says. `max_tokens_field`: the caller's name for the
    bound on its answer, '' in protocols without one. `cache_marks` is found when it is first needed (`protocols.cache_marks`).
    `left_out`: names of what the caller sent and no provider is told.
    """

    protocol: str
    model: str
    fields: dict[str, msgspec.Raw]
    kind: str = "chat"
    stream: bool = False
    include_usage: bool = False
    max_tokens: int | None = None
    max_tokens_field: str = ""
    n: int = 1
    input_tokens_estimate: int = 0
    reserve_tokens: int = 0
    messages: int = 0
    image_parts: int = 0
    audio_parts: int = 0
    file_parts: int = 0
    video_parts: int = 0
    tool_needs: frozenset[str] = frozenset()
    schema: bool = False
    reasons: bool = False
    modalities: frozenset[str] = frozenset()
    text_only: bool = True
    user: str | None = None
    metadata: dict[str, object] | None = None
    headers: dict[str, str] = {}
    output_bound: int | None = None
    units: dict[str, int] = {}
    reserve_units: dict[str, int] = {}
    drawings: int = 0
    resolution: str = ""
    usual: Usage | None = None
    form: bytes = b""
    store: bool = False
    previous: str | None = None
    told: dict[str, msgspec.Raw] = {}
    cache_marks: CacheMarks | None = None
    left_out: tuple[str, ...] = ()

    @property
    def most_input(self) -> int:
        """The most tokens that can be read for it."""
        return self.input_tokens_estimate + self.reserve_tokens

    @property
    def most_units(self) -> dict[str, int]:
        return {**self.units, **self.reserve_units} if self.reserve_units else self.units

    @property
    def needs(self) -> frozenset[str]:
        """The capabilities that a model must have, in the words of `proxy.capabilities`. Asked only where a model is chosen."""
        needed = {
            "vision": self.image_parts,
            "files": self.file_parts,
            "audio_input": self.audio_parts,
            "video_input": self.video_parts,
            "audio_output": "audio" in self.modalities,
            "image_output": "image" in self.modalities,
            "structured_output": self.schema,
            "reasoning": self.reasons,
        }
        return self.tool_needs | {name for name, is_needed in needed.items() if is_needed}
