"""Tokens of one call, counted once each. Pure: no framework, no network."""

import msgspec


class Usage(msgspec.Struct, frozen=True):
    """Tokens in disjoint kinds, each with its own price. `reasoning` is part of `output`: never add it.

    `units` counts what is not a token (image, second, character …) by the names of a price's units. `estimated` marks
    figures the gateway counted itself because the provider reported none. `beside`: what else the model read and wrote for the
    answer, each at one go of its own (a conversation that its provider shortened first); none of it is in the other figures.
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
    units: dict[str, int] = {}
    estimated: bool = False
    beside: tuple["Usage", ...] = ()

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
