"""Controls of forms without a template: Django renders one for each option of a list, and again one for its attributes.

What is drawn is what Django's templates draw, to the letter; widgets that are not here go to them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from django.forms.renderers import DjangoTemplates
from django.http import HttpRequest
from django.utils.formats import localize
from django.utils.html import conditional_escape

Widget = Mapping[str, Any]  # the "widget" of a widget's context
FOLDER = "django/forms/widgets"
OPTION = f"{FOLDER}/select_option.html"
INPUTS = ("text", "number", "email", "url", "password", "hidden", "checkbox", "date", "datetime", "time")


class WidgetRenderer(DjangoTemplates):
    def render(self, template_name: str, context: dict[str, Any], request: HttpRequest | None = None) -> str:
        draw = DRAWN.get(template_name)
        drawn = draw(context["widget"]) if draw else None
        return super().render(template_name, context, request) if drawn is None else drawn


def _attributes(widget: Widget) -> str:
    shown = ((name, value) for name, value in widget["attrs"].items() if value is not False)
    return "".join(
        f" {conditional_escape(name)}" if value is True else f' {conditional_escape(name)}="{conditional_escape(value)}"'
        for name, value in shown
    )


def _input(widget: Widget) -> str:
    value = "" if widget["value"] is None else f' value="{conditional_escape(widget["value"])}"'
    name, kind = conditional_escape(widget["name"]), conditional_escape(widget["type"])
    return f'<input type="{kind}" name="{name}"{value}{_attributes(widget)}>'


def _choice(widget: Widget) -> str:
    """One radio button or checkbox of a list, in its label or without."""
    if not widget.get("wrap_label"):
        return _input(widget)
    name = widget["attrs"].get("id")
    opening = f'<label for="{conditional_escape(localize(name))}">' if name else "<label>"
    return f"{opening}{_input(widget)}\n {conditional_escape(localize(widget['label']))}</label>"


def _textarea(widget: Widget) -> str:
    text = conditional_escape(localize(widget["value"])) if widget["value"] else ""
    return f'<textarea name="{conditional_escape(widget["name"])}"{_attributes(widget)}>\n{text}</textarea>'


def _select(widget: Widget) -> str | None:
    """None where options have a template of their own."""
    parts = [f'<select name="{conditional_escape(widget["name"])}"{_attributes(widget)}>']
    for group, options, _ in widget["optgroups"]:
        if any(option["template_name"] != OPTION for option in options):
            return None
        opening, closing = (
            (f'\n  <optgroup label="{conditional_escape(localize(group))}">', "\n  </optgroup>") if group else ("", "")
        )
        parts += [opening, *(f"\n  {_option(option)}" for option in options), closing]
    return "".join([*parts, "\n</select>"])


def _option(option: Widget) -> str:
    value, label = conditional_escape(option["value"]), conditional_escape(localize(option["label"]))
    return f'<option value="{value}"{_attributes(option)}>{label}</option>\n'


DRAWN: dict[str, Callable[[Widget], str | None]] = {
    **{f"{FOLDER}/{kind}.html": _input for kind in ("input", *INPUTS)},
    **{f"{FOLDER}/{kind}.html": _select for kind in ("select", "select_multiple")},
    **{f"{FOLDER}/{kind}_option.html": _choice for kind in ("radio", "checkbox")},
    f"{FOLDER}/textarea.html": _textarea,
}
