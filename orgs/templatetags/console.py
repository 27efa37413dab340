"""Template tags of the console: figures, icons, meters, sparklines, form controls, and links that open a dialog or a drawer."""

import functools
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from django import template
from django.contrib.staticfiles.storage import staticfiles_storage
from django.forms import CheckboxInput, CheckboxSelectMultiple, RadioSelect, Select
from django.forms.boundfield import BoundField, BoundWidget
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe
from django.utils.text import capfirst

from gateway_project.lib import formatting, money

register = template.Library()

# Ledger and HTTP words → the tone of their pill. What is not listed stays grey.
TONES = {
    "ok": ("ok", "active", "success", "succeeded", "settled", "healthy", "paid", "enabled"),
    "warn": ("pending", "held", "expiring", "near", "degraded", "cancelled", "cut"),
    "bad": ("failed", "error", "refused", "revoked", "expired", "frozen", "full", "down"),
    "info": ("running", "invited", "live", "test"),
}
TONE_OF = {word: tone for tone, words in TONES.items() for word in words}


@register.filter
def usd(nano: int | None) -> str:
    """Nano-dollars for people; a dash where there is no amount."""
    return "–" if nano is None else money.display_usd(nano)


@register.filter
def limit_usd(nano: int) -> str:
    """What somebody set: whole cents with two decimals."""
    return money.limit_usd(nano)


@register.filter
def usd_exact(nano: int | None) -> str:
    """Nano-dollars with every digit: for titles, details and exports."""
    return "–" if nano is None else f"{'-' if nano < 0 else ''}${money.exact_usd(abs(nano))}"


@register.filter
def code_words(code: str) -> str:
    """A code for callers as words: "budget exceeded"."""
    return formatting.code_words(code)


@register.filter
def local_words(text: str) -> str:
    """A sentence that callers get, its moments by the clock of the page."""
    return formatting.local_words(text, timezone.get_current_timezone())


@register.filter
def closed(sentence: str) -> str:
    """With a full stop, be it its own."""
    return sentence if sentence.endswith((".", "!", "?")) else f"{sentence}."


@register.filter
def compact(number: int | None) -> str:
    return "–" if number is None else formatting.compact(number)


@register.filter
def count(number: int | None) -> str:
    return "–" if number is None else f"{number:,}"


@register.filter
def duration(milliseconds: int | None) -> str:
    return "–" if milliseconds is None else formatting.duration(milliseconds)


@register.filter
def percent_of(part: int, whole: int) -> str:
    return formatting.percent(part, whole)


@register.filter
def ago(moment: datetime | None) -> str:
    """A <time> element that reads "3 min ago" and carries the exact moment in its title."""
    if moment is None:
        return "–"
    local = timezone.localtime(moment)
    text = formatting.ago(local, now=timezone.localtime())
    title = f"{formatting.minute_words(local)}:{local:%S} {local.tzname()}"
    return format_html('<time datetime="{}" title="{}">{}</time>', moment.astimezone(UTC).isoformat(), title, text)


FIGURES: dict[str, Callable[[int | None], str]] = {
    "usd": usd,
    "count": count,
    "tokens": compact,
    "ms": duration,
}


@register.filter
def moment(at: datetime) -> str:
    """A <time> element to the second, like "Nov 3, 14:05:09", with the day's year and the zone in its title."""
    local = timezone.localtime(at)
    title, text = f"{formatting.minute_words(local)}:{local:%S} {local.tzname()}", f"{local:%b} {local.day}, {local:%H:%M:%S}"
    return format_html('<time datetime="{}" title="{}">{}</time>', at.astimezone(UTC).isoformat(), title, text)


@register.filter
def figure(value: int | None, unit: str) -> str:
    """A value in the unit of its chart or limit: usd (nano-dollars), count, tokens, ms."""
    return FIGURES[unit](value)


@register.filter
def chart_rows(chart: Mapping[str, Any]) -> list[tuple[str, list[str], str]]:
    """The chart as a table: (label, one figure per series, their sum) for each label."""
    columns = [series["values"] for series in chart["series"]]
    show = FIGURES[chart["unit"]]
    # Without a series every label still has its row: an empty one.
    values_by_label = list(zip(*columns, strict=True)) or [()] * len(chart["labels"])
    rows = zip(chart["labels"], values_by_label, strict=True)
    return [(label, [show(value) for value in values], show(sum(value or 0 for value in values))) for label, values in rows]


@register.filter
def tone_of(status: object) -> str:
    """A status word or HTTP status → ok, warn, bad, info or muted."""
    text = str(status).lower()
    if text.isdigit():
        return {"2": "ok", "4": "warn", "5": "bad"}.get(text[0], "muted")
    return TONE_OF.get(text, "muted")


@register.simple_tag
def pill(text: str, tone: str = "", title: str = "", plain: bool = False) -> SafeString:
    """What components/status.html shows, with a capital; rows of long tables draw it without the include."""
    return format_html(
        '<span class="gh-pill{}" data-tone="{}"{}>{}</span>',
        " is-plain" if plain else "",
        tone or tone_of(text),
        format_html(' title="{}"', title) if title else "",
        capfirst(text),
    )


@register.filter
def message_tone(level_tag: str) -> str:
    """Django's message level → the tone of its toast."""
    return {"success": "ok", "warning": "warn", "error": "bad"}.get(level_tag, "info")


@register.simple_tag
def icon(name: str, extra: str = "") -> SafeString:
    """An icon of static/img/icons.svg; decorative, so the control beside it must carry the words."""
    return _drawn(name, extra, staticfiles_storage.url("img/icons.svg"))


@functools.cache
def _drawn(name: str, extra: str, sprite: str) -> SafeString:
    """Kept: every page draws some forty, of fewer than a hundred that there are."""
    return format_html(
        '<svg class="icon {}" aria-hidden="true" focusable="false"><use href="{}#{}"></use></svg>', extra, sprite, name
    )


@register.simple_tag
def sparkline(values: Sequence[int], width: int = 240, height: int = 36) -> SafeString:
    """An SVG line with a soft area below it; it repeats what the tile's figures say, so screen readers skip it."""
    points = formatting.sparkline_points(values, width=width, height=height)
    if len(points) < 2:
        return mark_safe("")
    line = " ".join(f"{x},{y}" for x, y in points)
    return format_html(
        '<svg class="gh-sparkline" viewBox="0 0 {w} {h}" preserveAspectRatio="none" aria-hidden="true">'
        '<polygon points="0,{h} {line} {w},{h}"></polygon><polyline points="{line}"></polyline></svg>',
        w=width,
        h=height,
        line=line,
    )


@register.inclusion_tag("components/limit_meter.html")
def limit_meter(
    label: str,
    *,
    spent: int,
    held: int = 0,
    limit: int,
    unit: str = "usd",
    resets: datetime | None = None,
    where: str = "",
    url: str = "",
) -> dict[str, Any]:
    """One limit: spent, held, limit, resets when, and which node decides (`where`). `shown`: spent, not rounded to the whole."""
    return {
        "label": label,
        "spent": spent,
        "shown": usd_exact(spent) if unit == "usd" and limit - spent > 0 and usd(spent) == usd(limit) else figure(spent, unit),
        "held": held,
        "limit": limit,
        "whole": limit_usd(limit) if unit == "usd" else figure(limit, unit),
        "unit": unit,
        "resets": resets,
        "where": where,
        "url": url,
        "left": max(limit - spent - held, 0),
        "meter": formatting.meter(spent=spent, held=held, limit=limit),
    }


@register.simple_tag
def usage_bar(spent: int, limit: int, label: object) -> SafeString:
    """A thin bar of nano-dollars spent of a limit, for rows; `limit_meter` says the same in full."""
    meter = formatting.meter(spent=spent, held=0, limit=limit)
    return format_html(
        '<div class="gh-bar is-thin" data-level="{}" role="meter" aria-label="{}" aria-valuemin="0" aria-valuemax="{}"'
        ' aria-valuenow="{}" aria-valuetext="{} of {}"><i style="width: {}%"></i></div>',
        meter.level,
        label,
        str(limit),
        str(spent),
        usd(spent),
        limit_usd(limit),
        meter.spent_percent,
    )


@register.simple_tag
def in_dialog(url: str) -> SafeString:
    """Attributes of a link: with JavaScript its page opens as a dialog, without it as a page."""
    return format_html('hx-get="{}" hx-target="#dialog-body" hx-swap="innerHTML" aria-haspopup="dialog"', url)


@register.simple_tag
def in_drawer(url: str) -> SafeString:
    """Attributes of a link: with JavaScript its page opens in the drawer, under its own URL."""
    return format_html('hx-get="{}" hx-target="#drawer-body" hx-swap="innerHTML" aria-haspopup="dialog"', url)


def _control_class(field: BoundField) -> str:
    widget = field.field.widget
    if isinstance(widget, CheckboxInput | RadioSelect | CheckboxSelectMultiple):
        base = "form-check-input"
    else:
        base = "form-select" if isinstance(widget, Select) else "form-control"
    own = widget.attrs.get("class", "")
    return " ".join(part for part in (own, base, "is-invalid" if field.errors else "") if part)


@register.filter
def control(field: BoundField) -> SafeString:
    """The field's widget with the classes of its kind; what was typed stays, and a wrong value is marked."""
    return field.as_widget(attrs={"class": _control_class(field)})


@register.filter
def is_checkbox(field: BoundField) -> bool:
    return isinstance(field.field.widget, CheckboxInput)


@register.filter
def is_choice_list(field: BoundField) -> bool:
    """Radio buttons or a list of checkboxes: a group of controls under one legend."""
    return isinstance(field.field.widget, RadioSelect | CheckboxSelectMultiple)


@register.filter
def choice_control(option: BoundWidget) -> SafeString:
    """One radio button or checkbox of a list, without its label."""
    option.data["attrs"]["class"] = "form-check-input"
    return option.tag(wrap_label=False)


@register.simple_tag
def hidden_inputs(query: Mapping[str, Any], *names: str) -> SafeString:
    """The named parameters of a QueryDict as hidden inputs, so that a GET form keeps them."""
    kept = [(name, query[name]) for name in names if query.get(name)]
    return format_html_join("", '<input type="hidden" name="{}" value="{}">', kept)
