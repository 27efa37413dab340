"""What every wire protocol is read into: one request, one record of usage. Pure: no framework, no network.

A request keeps its members as raw JSON, so what the gateway does not read goes to the provider
byte for byte. Usage counts each token in exactly one kind; reasoning alone is an "of which".
"""

import msgspec


class Usage(msgspec.Struct, frozen=True):
    """Tokens in disjoint kinds, each with its own price. `reasoning` is part of `output`: never add it.

    `estimated` marks figures the gateway counted itself because the provider reported none.
    """

    input_uncached: int = 0
    cache_read: int = 0
    cache_write_5m: int = 0
    cache_write_1h: int = 0
    output: int = 0
    reasoning: int = 0
    audio_input: int = 0
    audio_output: int = 0
    image_input: int = 0
    image_output: int = 0
    estimated: bool = False

    @property
    def input_total(self) -> int:
        cached = self.cache_read + self.cache_write_5m + self.cache_write_1h
        return self.input_uncached + cached + self.audio_input + self.image_input

    @property
    def output_total(self) -> int:
        return self.output + self.audio_output + self.image_output

    @property
    def total(self) -> int:
        return self.input_total + self.output_total


class ChatRequest(msgspec.Struct):
    """One chat call as the caller asked for it.

    `fields` holds the top-level members as raw JSON in the caller's order (of a name given twice, the last
    value: what the gateway checked is what the provider gets). `input_tokens_estimate` is an upper bound.
    """

    protocol: str
    model: str
    stream: bool
    include_usage: bool
    max_tokens: int | None
    n: int
    input_tokens_estimate: int
    fields: dict[str, msgspec.Raw]
    messages: int = 0
    image_parts: int = 0
    audio_parts: int = 0
    user: str | None = None
    metadata: dict[str, object] | None = None


def text_tokens(byte_count: int) -> int:
    """An upper bound for ordinary text in any vocabulary: one token per three bytes, rounded up."""
    return -(-byte_count // 3)
