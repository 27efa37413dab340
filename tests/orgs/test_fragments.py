"""Parts of pages that a browser opens by their address: the console's frame stands around them, whichever view gives them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.http import HttpResponse
from django.test import Client, RequestFactory
from django.urls import NoReverseMatch, reverse

from orgs.middleware import FragmentMiddleware
from tests.actors import World, signed_in
from tests.orgs.test_routes import MORE, arguments_of, own_routes

OPENED = {"sec-fetch-dest": "document"}


def addresses(world: World) -> Iterator[str]:
    arguments = arguments_of(world)
    for make in dict.fromkeys(MORE.values()):
        arguments |= make(world)
    for route in own_routes():
        try:
            yield reverse(route.name, kwargs={name: arguments[name] for name in route.arguments})
        except (KeyError, NoReverseMatch):
            continue


def parts(client: Client, world: World) -> dict[str, str]:
    """By address, what views give that is HTML and no whole page."""
    found = {}
    for address in addresses(world):
        answer = client.get(address)
        is_html = answer.status_code == 200 and not answer.streaming and answer.headers["content-type"].startswith("text/html")
        if is_html and "<html" not in answer.content.decode():
            found[address] = answer.content.decode()
    return found


def test_every_part_that_is_opened_stands_in_the_frame_of_the_console(world: World) -> None:
    client = signed_in(world, "alice")
    found = parts(client, world)
    assert f"/o/{world.acme.slug}/settings/calendar/" in found
    assert len(found) > 5, found.keys()
    for address in found:
        page: Any = client.get(address, headers=OPENED)
        text = page.content.decode()
        assert page.status_code == 200, address
        assert text.startswith("<!DOCTYPE html>"), address
        assert 'class="gh-shell"' in text, address
        assert text.count("<html") == text.count('id="content"') == 1, address
        assert int(page.headers["content-length"]) == len(page.content), address
        # What keeps answers gives neither of the two where the other was asked for.
        assert "Sec-Fetch-Dest" in page.headers["vary"], address
        assert "Sec-Fetch-Dest" in client.get(address).headers["vary"], address


def test_what_htmx_asks_for_and_what_is_whole_stays_as_it_is(world: World) -> None:
    client = signed_in(world, "alice")
    address, keys = (f"/o/{world.acme.slug}/{path}/" for path in ("settings/calendar", "keys"))
    assert "<html" not in client.get(address, headers={"hx-request": "true", "sec-fetch-dest": "empty"}).content.decode()
    assert client.get(keys, headers=OPENED).content.decode().count("<html") == 1


def test_it_is_the_time_of_the_organisation_in_the_frame_too(world: World) -> None:
    world.acme.time_zone = "Asia/Tokyo"
    world.acme.save()
    client = signed_in(world, "alice")
    page = client.get(f"/o/{world.acme.slug}/settings/calendar/", headers=OPENED).content.decode()
    assert ">Asia/Tokyo</span>" in page


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (200, {"content-type": "text/csv"}),
        (200, {"content-type": "text/html", "content-disposition": "attachment"}),
        (404, {"content-type": "text/html"}),
    ],
)
def test_files_and_errors_are_no_parts(status: int, headers: dict[str, str]) -> None:
    request = RequestFactory().get("/", headers=OPENED)
    answer = HttpResponse("<p>Hello</p>", status=status, headers=headers)
    assert FragmentMiddleware(lambda _: answer).process_response(request, answer).content == b"<p>Hello</p>"
