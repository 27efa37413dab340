"""A form as a browser holds it once its page is open: what would be sent if nothing were typed."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

from django.test import Client


class _Reader(HTMLParser):
    """Forms by action; of each the successful controls, each name with all its values."""

    def __init__(self) -> None:
        super().__init__()
        self.forms: list[tuple[str, dict[str, list[str]]]] = []
        self.select: list[str] = []
        self.options: list[tuple[str, bool]] = []
        self.textarea = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        name = found.get("name", "")
        if tag == "form":
            self.forms.append((found.get("action", "").partition("#")[0], {}))
        elif tag == "select":
            self.select, self.options = [name], []
        elif tag == "option":
            self.options.append((found.get("value", ""), "selected" in found))
        elif tag == "textarea":
            self.textarea = name
            self._add(name, "")
        elif tag == "input" and name and "disabled" not in found:
            boxed = found.get("type") in ("checkbox", "radio")
            self._add(name if "checked" in found or not boxed else "", found.get("value", "on" if boxed else ""))

    def handle_data(self, data: str) -> None:
        if self.textarea and self.forms:
            values = self.forms[-1][1][self.textarea]
            values[-1] += data

    def handle_endtag(self, tag: str) -> None:
        if tag == "textarea":
            values = self.forms[-1][1][self.textarea]
            values[-1], self.textarea = values[-1].removeprefix("\n"), ""
        elif tag == "select" and self.select:
            chosen = [value for value, on in self.options if on] or [value for value, _ in self.options[:1]]
            for value in chosen:
                self._add(self.select[0], value)
            self.select = []

    def _add(self, name: str, value: str) -> None:
        if self.forms and name:
            self.forms[-1][1].setdefault(name, []).append(value)


def form_in(text: str, action: str) -> dict[str, Any]:
    """The form of the page that is sent to `action`, and that is filled from what is there."""
    reader = _Reader()
    reader.feed(text)
    found = [fields for sent_to, fields in reader.forms if sent_to == action and "as_of" in fields]
    assert len(found) == 1, [sent_to for sent_to, _ in reader.forms]
    return {name: values if len(values) > 1 else values[0] for name, values in found[0].items()}


def opened(client: Client, page: str, action: str = "") -> dict[str, Any]:
    return form_in(client.get(page).content.decode(), action or page)
