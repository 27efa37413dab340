"""Controls drawn without a template are what Django's templates draw, letter by letter."""

from datetime import UTC, date, datetime, time
from typing import Any

import pytest
from django import forms
from django.forms.renderers import DjangoTemplates, get_default_renderer
from django.utils.safestring import SafeString, mark_safe
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway_project.lib.widgets import DRAWN, WidgetRenderer
from tests.examples import some

OURS, DJANGOS = WidgetRenderer(), DjangoTemplates()
INPUTS = [
    *(forms.TextInput, forms.NumberInput, forms.EmailInput, forms.URLInput, forms.PasswordInput, forms.HiddenInput),
    *(forms.CheckboxInput, forms.DateInput, forms.DateTimeInput, forms.TimeInput, forms.Textarea),
]
LISTS = [forms.Select, forms.SelectMultiple]
TEXTS = st.text(st.sampled_from("aé<>&\"' \n{}%"), max_size=6)
WORDS = TEXTS | TEXTS.map(mark_safe) | st.integers(-20_000, 20_000)
VALUES = (
    *(WORDS, st.none(), st.booleans(), st.floats(allow_nan=False, allow_infinity=False), st.decimals(-9_999, 9_999, places=2)),
    *(st.just(date(2026, 11, 29)), st.just(datetime(2026, 11, 29, 11, 45, tzinfo=UTC)), st.just(time(11, 45))),
)
ATTRIBUTES = st.dictionaries(st.sampled_from(["class", "id", "data-x", "required", "<"]), WORDS | st.booleans(), max_size=3)
CHOICES = st.lists(st.tuples(WORDS | st.just(""), WORDS), max_size=4)
GROUPED = st.lists(st.tuples(TEXTS.filter(bool), CHOICES), max_size=2)


def drawn(widget: forms.Widget, value: object) -> tuple[SafeString, SafeString]:
    """By us, by Django."""
    ours, theirs = (widget.render("na<me", value, {"lang": "en"}, renderer=one) for one in (OURS, DJANGOS))
    return ours, theirs


@pytest.mark.parametrize("made", INPUTS)
@settings(max_examples=some(30))
@given(value=st.one_of(*VALUES), attributes=ATTRIBUTES)
def test_a_field_to_type_in(made: type[forms.Widget], value: object, attributes: dict[str, Any]) -> None:
    ours, theirs = drawn(made(attrs=attributes), value)
    assert ours == theirs


@pytest.mark.parametrize("made", LISTS)
@settings(max_examples=some(30))
@given(value=WORDS | st.none() | st.lists(WORDS, max_size=2), choices=CHOICES, groups=GROUPED, attributes=ATTRIBUTES)
def test_a_list_to_choose_from(
    made: type[forms.Select], value: object, choices: list[Any], groups: list[Any], attributes: dict[str, Any]
) -> None:
    ours, theirs = drawn(made(attrs=attributes, choices=[*choices, *groups, *choices]), value)
    assert ours == theirs


@pytest.mark.parametrize("made", [forms.RadioSelect, forms.CheckboxSelectMultiple])
@settings(max_examples=some(30))
@given(value=WORDS | st.none() | st.lists(WORDS, max_size=2), choices=CHOICES, attributes=ATTRIBUTES)
def test_a_button_or_box_of_a_list(
    made: type[forms.RadioSelect], value: object, choices: list[Any], attributes: dict[str, Any]
) -> None:
    """As a page asks for each, and as the list draws them all."""
    widget = made(attrs=attributes, choices=choices)
    for option in widget.subwidgets("na<me", value, {"id": "id_<name", "class": "x"}):
        for wrap_label in (True, False):
            context = {"widget": {**option, "wrap_label": wrap_label}}
            ours, theirs = (one.render(widget.option_template_name, context) for one in (OURS, DJANGOS))
            assert ours == theirs
    ours, theirs = drawn(widget, value)
    assert ours == theirs


def test_options_with_a_template_of_their_own_keep_it() -> None:
    class Marked(forms.Select):
        option_template_name = "django/forms/widgets/radio_option.html"

    ours, theirs = drawn(Marked(choices=[("a", "A")]), "a")
    assert ours == theirs
    assert "radio" not in ours
    assert "<label" in theirs


@pytest.mark.parametrize(
    "widget",
    [*(made(choices=[("a", "A<"), ("b", "B")]) for made in (forms.RadioSelect, forms.CheckboxSelectMultiple)), forms.FileInput()],
)
def test_other_widgets_are_djangos(widget: forms.Widget) -> None:
    ours, theirs = drawn(widget, "a")
    assert ours == theirs


def test_forms_are_drawn_by_it() -> None:
    class Form(forms.Form):
        name = forms.CharField(initial="<b>")

    assert isinstance(get_default_renderer(), WidgetRenderer)
    assert Form()["name"].as_widget() == '<input type="text" name="name" value="&lt;b&gt;" required id="id_name">'
    assert all(template.startswith("django/forms/widgets/") for template in DRAWN)
