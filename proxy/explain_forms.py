"""The question of an explanation, as people type it and scripts send it."""

from __future__ import annotations

from typing import Any

from django import forms
from django.core.validators import validate_ipv46_address

from proxy.explained import Question

MOST_TOKENS = 100_000_000
MOST_ANSWERS = 128
# A prompt of a page or so.
USUAL_INPUT = 1000


class QuestionForm(forms.Form):
    """Any name of a model may be typed; of one that is not offered the answer says so."""

    model = forms.CharField(
        max_length=200,
        widget=forms.TextInput(attrs={"list": "offered-models", "autocomplete": "off", "placeholder": "Name of a model"}),
    )
    input_tokens = forms.IntegerField(
        label="Input tokens",
        min_value=0,
        max_value=MOST_TOKENS,
        required=False,
        widget=forms.NumberInput(attrs={"placeholder": USUAL_INPUT}),
        help_text="As the gateway estimates them.",
    )
    reserve_tokens = forms.IntegerField(
        label="Read besides",
        min_value=0,
        max_value=MOST_TOKENS,
        required=False,
        help_text="Tokens of what a tool of the provider finds, or of documents behind addresses.",
    )
    max_tokens = forms.IntegerField(
        label="Max tokens",
        min_value=1,
        max_value=MOST_TOKENS,
        required=False,
        help_text="What the request asks for; empty: it sets none.",
    )
    address = forms.CharField(label="From address", max_length=45, required=False, help_text="Where the call comes from.")
    feature = forms.CharField(max_length=60, required=False, help_text="Named in the header x-gatehouse-feature, if any.")
    n = forms.IntegerField(
        label="Answers", min_value=1, max_value=MOST_ANSWERS, required=False, help_text="How many it asks for, by n; empty: one."
    )
    stream = forms.BooleanField(label="Streamed", required=False)

    def clean_address(self) -> str:
        address: str = self.cleaned_data["address"].strip()
        if address:
            validate_ipv46_address(address)
        return address

    def question(self, *, address: str) -> Question:
        """`address`: where the call is taken to come from, unless one is given."""
        typed: dict[str, Any] = self.cleaned_data
        tokens = typed["input_tokens"]
        return Question(
            model=typed["model"],
            input_tokens=USUAL_INPUT if tokens is None else tokens,
            max_tokens=typed["max_tokens"],
            stream=typed["stream"],
            address=typed["address"] or address,
            feature=typed["feature"].strip(),
            n=typed["n"] or 1,
            reserve_tokens=typed["reserve_tokens"] or 0,
        )

    def assumed(self, question: Question) -> str:
        """What of the call nobody has said, in words; '' where all of it was."""
        typed = self.cleaned_data
        taken = {
            "input_tokens": f"it reads {question.input_tokens:,} input tokens",
            "max_tokens": "it sets no maximum of output tokens",
            "address": f"it comes from {question.address}",
        }
        words = [text for name, text in taken.items() if typed[name] in (None, "")]
        return f"Not said, so assumed: {', '.join(words)}." if words else ""
