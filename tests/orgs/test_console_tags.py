"""Tags and components of the console, rendered through real templates."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django import forms
from django.conf import settings as project
from django.contrib.messages import constants
from django.template import Context, Template
from django.template.loader import render_to_string
from django.test import RequestFactory
from django.utils import timezone

from gateway_project.lib.money import NANO
from guardrails.example_call import Snippet
from orgs.templatetags import console

SPRITE = Path(project.BASE_DIR) / "static" / "img" / "icons.svg"
TEMPLATES = Path(project.BASE_DIR) / "templates"


@pytest.fixture(autouse=True)
def _plain_static_files(settings: Any) -> None:
    """File names without their hash: these tests need no collected files."""
    settings.STORAGES = {**settings.STORAGES, "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}}


def render(source: str, **context: object) -> str:
    return Template("{% load console %}" + source).render(Context(context)).replace("\u00a0", " ")


# --- figures ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "value", "shown"),
    [
        ("{{ value|usd }}", 1234 * NANO, "$1,234.00"),
        ("{{ value|usd }}", 41_200_000, "$0.0412"),
        ("{{ value|usd }}", None, "–"),
        ("{{ value|usd_exact }}", 1500, "$0.0000015"),
        ("{{ value|usd_exact }}", -2 * NANO, "-$2"),
        ("{{ value|usd_exact }}", None, "–"),
        ("{{ value|compact }}", 2_909_000_000, "2.91 B"),
        ("{{ value|compact }}", None, "–"),
        ("{{ value|count }}", 1_284_110, "1,284,110"),
        ("{{ value|count }}", 0, "0"),
        ("{{ value|count }}", None, "–"),
        ("{{ value|duration }}", 1920, "1.92 s"),
        ("{{ value|duration }}", None, "–"),
        ("{{ value|percent_of:200 }}", 100, "50%"),
        ("{{ value|figure:'usd' }}", 5 * NANO, "$5.00"),
        ("{{ value|figure:'tokens' }}", 12_345, "12.3 K"),
        ("{{ value|figure:'count' }}", 12_345, "12,345"),
        ("{{ value|figure:'ms' }}", 12_345, "12.3 s"),
    ],
)
def test_figures_are_written_for_people(source: str, value: int | None, shown: str) -> None:
    assert render(source, value=value) == shown


def test_an_unknown_unit_is_an_error_and_not_a_wrong_figure() -> None:
    with pytest.raises(KeyError):
        render("{{ 5|figure:'euro' }}")


def test_a_moment_carries_its_exact_time() -> None:
    moment = timezone.now() - timedelta(minutes=3, seconds=20)
    shown = render("{{ moment|ago }}", moment=moment)
    assert ">3 min ago</time>" in shown
    assert f'datetime="{moment.astimezone(UTC).isoformat()}"' in shown
    assert f"{moment:%H:%M:%S} UTC" in shown


def test_a_moment_is_shown_in_the_zone_of_the_viewer() -> None:
    moment = datetime(2024, 1, 15, 12, 0, tzinfo=UTC)
    with timezone.override("Asia/Tokyo"):
        assert "Jan 15, 2024, 21:00:00 JST" in render("{{ moment|ago }}", moment=moment)


def test_a_moment_of_a_list_is_told_to_the_second_in_the_zone_of_the_viewer() -> None:
    at = datetime(2024, 1, 5, 12, 3, 4, 250_000, tzinfo=UTC)
    with timezone.override("Asia/Tokyo"):
        shown = render("{{ at|moment }}", at=at)
    assert shown == f'<time datetime="{at.isoformat()}" title="Jan 5, 2024, 21:03:04 JST">Jan 5, 21:03:04</time>'


def test_what_never_happened_is_a_dash() -> None:
    assert render("{{ moment|ago }}", moment=None) == "–"


@pytest.mark.parametrize(
    ("status", "tone"),
    [
        ("active", "ok"),
        ("Active", "ok"),
        ("pending", "warn"),
        ("revoked", "bad"),
        ("running", "info"),
        ("disabled", "muted"),
        ("anything else", "muted"),
        (200, "ok"),
        ("403", "warn"),
        (502, "bad"),
        (101, "muted"),
    ],
)
def test_a_status_has_a_tone(status: object, tone: str) -> None:
    assert render("{{ status|tone_of }}", status=status) == tone


def test_every_message_level_has_a_tone() -> None:
    tones = {tag: console.message_tone(tag) for tag in constants.DEFAULT_TAGS.values()}
    assert tones == {"debug": "info", "info": "info", "success": "ok", "warning": "warn", "error": "bad"}


# --- icons and lines -------------------------------------------------------------------------------


def symbols() -> set[str]:
    return set(re.findall(r'<symbol id="([^"]+)"', SPRITE.read_text()))


def test_an_icon_is_a_picture_without_words() -> None:
    shown = render('{% icon "key" "icon-lg" %}')
    assert 'class="icon icon-lg" aria-hidden="true"' in shown
    assert '<use href="/static/img/icons.svg#key">' in shown


def named_icons() -> set[str]:
    """Every icon that a template names in quotes, with the templates' defaults and the blocks of the error pages."""
    found: set[str] = set()
    for template in TEMPLATES.rglob("*.html"):
        text = template.read_text()
        found |= set(re.findall(r'(?:{% icon |icon=|icon\|default:)"([\w-]+)"', text))
        found |= set(re.findall(r"{% block icon %}([\w-]+){% endblock %}", text))
    return found


def test_every_icon_that_a_template_names_exists() -> None:
    assert len(named_icons()) > 20
    assert named_icons() - symbols() == set()


def test_a_sparkline_is_drawn_from_two_values_on() -> None:
    shown = render("{% sparkline values %}", values=[1, 3, 2])
    assert '<polyline points="0.0,35.0 120.0,1.0 240.0,18.0">' in shown
    assert render("{% sparkline values %}", values=[1]) == ""


# --- limit meter -----------------------------------------------------------------------------------

METER = '{% limit_meter "Research" spent=spent held=held limit=limit resets=resets where="Acme AG" %}'


def meter(spent: int, held: int, limit: int, resets: datetime | None = None) -> str:
    return render(METER, spent=spent * NANO, held=held * NANO, limit=limit * NANO, resets=resets)


def test_a_meter_shows_spent_held_limit_reset_and_who_decides() -> None:
    shown = meter(6620, 310, 8000, timezone.now() + timedelta(days=9, hours=1))
    for words in ("$6,620.00", "of $8,000.00", "$310.00 held", "$1,070.00 left", "in 9 d", "set at Acme AG"):
        assert words in shown
    assert 'data-level="near"' in shown


def test_a_full_meter_says_so() -> None:
    shown = meter(1010, 0, 1000)
    assert "used up" in shown
    assert "left" not in shown
    assert "resets" not in shown


@pytest.mark.parametrize(
    ("spent", "limit", "said"),
    [
        (NANO // 100 - 1_500, NANO // 100, "$0.0099985"),
        (NANO // 100, NANO // 100, "$0.0100"),
        (NANO // 100 + 1_500, NANO // 100, "$0.0100"),
        (3 * NANO - 1, 3 * NANO, "$2.999999999"),
        (NANO, 3 * NANO, "$1.00"),
        (0, 0, "$0.00"),
    ],
)
def test_what_is_not_spent_whole_does_not_look_so(spent: int, limit: int, said: str) -> None:
    shown = render(METER, spent=spent, held=0, limit=limit, resets=None)
    assert f">{said}</strong>" in shown
    assert f'aria-valuetext="{said} spent' in shown
    assert ("used up" in shown) == (spent >= limit)


def test_figures_in_a_meters_attributes_have_no_separators() -> None:
    shown = meter(1000, 0, 4000)
    assert 'style="width: 25.00%"' in shown
    assert f'aria-valuenow="{1000 * NANO}"' in shown


def test_a_meter_counts_other_things_than_money() -> None:
    shown = render('{% limit_meter "Calls a minute" spent=30 limit=60 unit="count" %}')
    assert "of 60" in shown
    assert "30 left" in shown


# --- charts ----------------------------------------------------------------------------------------

CHART: Mapping[str, Any] = {
    "id": "spend",
    "title": "Spend by model",
    "kind": "bar",
    "unit": "usd",
    "labels": ["Nov 1", "Nov 2"],
    "series": [{"name": "gpt-5-mini", "values": [NANO, 2 * NANO]}, {"name": "</script><b>", "values": [3 * NANO, None]}],
}


def test_a_chart_is_a_table_first() -> None:
    assert console.chart_rows(CHART) == [("Nov 1", ["$1.00", "$3.00"], "$4.00"), ("Nov 2", ["$2.00", "–"], "$2.00")]


def test_a_series_that_does_not_fit_its_labels_is_an_error() -> None:
    with pytest.raises(ValueError, match="zip"):
        console.chart_rows({**CHART, "labels": ["Nov 1"]})


def test_a_chart_card_carries_its_values_and_escapes_names() -> None:
    shown = render_to_string("components/chart_card.html", {"chart": CHART})
    assert 'id="spend-values"' in shown
    assert 'data-chart="spend-values"' in shown
    assert "</script><b>" not in shown
    assert '<th scope="row" class="fw-normal text-nowrap">Nov 2</th>' in shown


# --- links -----------------------------------------------------------------------------------------


def test_a_link_can_open_as_dialog_or_drawer() -> None:
    assert 'hx-get="/a?b=1&amp;c=2" hx-target="#dialog-body"' in render("{% in_dialog url %}", url="/a?b=1&c=2")
    assert 'hx-target="#drawer-body"' in render("{% in_drawer url %}", url="/a")


def test_a_form_keeps_the_named_parameters() -> None:
    query = RequestFactory().get("/?period=7d&model=&x=%22%3E").GET
    shown = render("{% hidden_inputs query 'period' 'model' 'x' 'absent' %}", query=query)
    assert shown == '<input type="hidden" name="period" value="7d"><input type="hidden" name="x" value="&quot;&gt;">'


# --- forms -----------------------------------------------------------------------------------------


class KeyForm(forms.Form):
    name = forms.CharField(help_text="What uses it.", widget=forms.TextInput(attrs={"class": "gh-mono"}))
    owner = forms.ChoiceField(choices=[("a", "Alice"), ("b", "Bob")])
    kind = forms.ChoiceField(choices=[("p", "Personal"), ("s", "Service")], widget=forms.RadioSelect)
    strict = forms.BooleanField(required=False, label="Only deployments that keep no data")
    secret = forms.CharField(widget=forms.HiddenInput, required=False)
    note = forms.CharField(required=False, widget=forms.Textarea)


def fields(form: forms.Form) -> str:
    return render_to_string("components/fields.html", {"form": form})


def test_each_kind_of_control_has_its_class() -> None:
    shown = fields(KeyForm())
    assert 'class="gh-mono form-control"' in shown
    assert re.search(r'<select name="owner"[^>]* class="form-select"', shown)
    assert len(re.findall(r'type="radio"[^>]* class="form-check-input"', shown)) == 2
    assert re.search(r'type="checkbox"[^>]* class="form-check-input"', shown)
    assert re.search(r'<textarea name="note"[^>]* class="form-control"', shown)


def test_every_control_has_a_label_and_groups_have_a_legend() -> None:
    shown = fields(KeyForm())
    for name in ("name", "owner", "note"):
        assert f'<label class="form-label" for="id_{name}">' in shown
    assert re.search(r"<legend[^>]*>Kind</legend>", shown)
    assert 'for="id_secret"' not in shown


def test_a_refused_form_keeps_what_was_typed_and_says_what_is_wrong() -> None:
    form = KeyForm({"name": "check<out", "owner": "z", "kind": "s"})
    form.add_error(None, "The group has $80.00 left.")
    shown = fields(form)
    assert 'value="check&lt;out"' in shown
    assert "form-select is-invalid" in shown
    assert "Select a valid choice" in shown
    assert 'id="id_owner_error"' in shown
    assert re.search(r'value="s"[^>]* checked', shown)
    assert "The group has $80.00 left." in shown


def test_help_is_tied_to_its_control() -> None:
    shown = fields(KeyForm())
    assert 'aria-describedby="id_name_helptext"' in shown
    assert 'id="id_name_helptext">What uses it.' in shown


def test_only_optional_fields_say_so() -> None:
    shown = fields(KeyForm())
    assert shown.count(">optional</span>") == 1


# --- pages -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["400.html", "404.html", "500.html"])
def test_an_error_page_needs_neither_request_nor_viewer(name: str) -> None:
    shown = render_to_string(name)
    title = re.search(r"<h1>(.+)</h1>", shown)
    assert title
    assert f"<title>{title[1]} · Gatehouse</title>" in shown


def test_a_refusal_names_the_permission_and_who_can_grant_it() -> None:
    shown = render_to_string("403.html", {"permission": "Manage guardrails", "granters": ["Alice Weber", "Jon Li"]})
    assert "<strong>Manage guardrails</strong>, which Alice Weber or Jon Li can grant" in shown


def test_templates_stay_small_and_free_of_inline_script() -> None:
    for template in TEMPLATES.rglob("*.html"):
        text = template.read_text()
        assert text.count("\n") <= 200, template
        assert not re.search(r"<script(?![^>]*(src=|application/json))", text), template
        assert not re.search(r"\son(click|change|submit|load|input)=", text), template
        assert not re.search(r"{#(?:(?!#}).)*$", text, re.M), f"{template}: a comment of several lines would be shown"


CONFIRM = {
    "form_action": "/keys/7/delete/",
    "confirm_title": "Delete this key?",
    "confirm_name": "checkout",
    "confirm_losses": ["It stops."],
}


@pytest.mark.parametrize(("from_htmx", "frame"), [(True, "modal-content"), (False, "gh-shell")])
def test_one_template_serves_as_dialog_and_as_page(from_htmx: bool, frame: str) -> None:
    request = RequestFactory().get("/")
    request.htmx = from_htmx  # type: ignore[attr-defined]
    shown = render_to_string("components/confirm.html", {**CONFIRM, "request": request})
    assert frame in shown
    assert 'method="post" action="/keys/7/delete/"' in shown
    assert shown.count("Delete this key?") >= 1
    assert 'data-confirm="checkout"' in shown


def test_a_secret_is_shown_with_its_snippets() -> None:
    request = RequestFactory().get("/")
    request.htmx = True  # type: ignore[attr-defined]
    context = {
        "request": request,
        "secret": "gh_sk_x_y",
        "base_url": "http://g/v1",
        "model": "m-1",
        "snippets": [Snippet("curl", "curl", "curl http://g/v1/chat/completions -H gh_sk_x_y")],
        "done_url": "/keys/",
        "dialog_static": True,
    }
    shown = render_to_string("components/secret.html", context)
    assert "curl http://g/v1/chat/completions" in shown
    assert shown.count("gh_sk_x_y") == 3
    assert 'data-url="http://g/v1/chat/completions"' in shown
    assert "data-dialog-static" in shown


def test_a_chart_without_series_has_a_row_for_each_label() -> None:
    from orgs.templatetags.console import chart_rows

    assert chart_rows({"labels": ["Mon", "Tue"], "series": [], "unit": "usd"}) == [("Mon", [], "$0.00"), ("Tue", [], "$0.00")]
