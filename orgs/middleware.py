"""What surrounds every page of a signed-in person, and allauth's pages."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from allauth.usersessions.models import UserSession
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.template.loader import render_to_string
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.cache import add_never_cache_headers, patch_vary_headers
from django.utils.deprecation import MiddlewareMixin

from orgs.doors import door_of
from orgs.origin import origin_of
from orgs.services.sessions import SEEN_EVERY
from orgs.viewing import OnlyLooking, look, refuse_change

SEEN = "seen_at"
# What may be done while one looks as somebody else.
WAYS_OUT = ("orgs:view_as_end", "account_logout")
# Their doors refuse changes themselves: in an organisation strangers get their 404 first, programs get answers in their shapes.
REFUSE_THEMSELVES = ("organization", "api", "directory")


class LastUseMiddleware(MiddlewareMixin):
    """Remembers when and from where a session was used last, every ten minutes: a page costs no query for it.

    What a signed-in person was shown stays in no cache, unless its view says otherwise.
    """

    def process_response(self, request: HttpRequest, response: HttpResponse) -> HttpResponse:
        session = getattr(request, "session", None)
        if session is None or not session.accessed or not session.get("_auth_user_id") or not session.session_key:
            return response
        if not response.has_header("Cache-Control"):
            add_never_cache_headers(response)
        now = datetime.now(UTC)
        if SEEN not in session:  # it has just begun, and says so already
            session[SEEN] = int(now.timestamp())
        elif now.timestamp() - session[SEEN] >= SEEN_EVERY.total_seconds():
            session[SEEN] = int(now.timestamp())
            seen = {"last_seen_at": now, "ip": origin_of(request).ip}
            UserSession.objects.filter(session_key=session.session_key).update(**{name: v for name, v in seen.items() if v})
        return response


class LookingMiddleware(MiddlewareMixin):
    """Whoever looks as somebody else changes nothing outside the organisation either: allauth's pages have no door of ours."""

    def process_view(
        self, request: HttpRequest, view: Callable[..., object], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> HttpResponse | None:
        door, match = door_of(view), request.resolver_match
        if (door and door.kind in REFUSE_THEMSELVES) or (match and match.view_name in WAYS_OUT):
            return None
        try:
            refuse_change(request.method, looks=look(request))
        except OnlyLooking as looking:
            page = render(request, "403.html", {"exception": str(looking)}, status=403)
            add_never_cache_headers(page)
            return page
        return None


class FragmentMiddleware(MiddlewareMixin):
    """A part of a page that a browser opens by its address, from a bookmark or a new tab, gets the console's frame around it.

    Views give parts to whoever asks; that only a whole page stands alone, they need not know.
    """

    def process_response(self, request: HttpRequest, response: HttpResponse) -> HttpResponse:
        if request.method != "GET" or not _is_part(response):
            return response
        patch_vary_headers(response, ["Sec-Fetch-Dest"])
        if request.headers.get("sec-fetch-dest") != "document":
            return response
        organization = getattr(request, "organization", None)
        with timezone.override(ZoneInfo(organization.time_zone)) if organization else nullcontext():
            context = {"part": response.content.decode(response.charset)}
            response.content = render_to_string("components/fragment.html", context, request)
        return response


def _is_part(response: HttpResponse) -> bool:
    if response.streaming or response.status_code != 200 or not response.headers.get("Content-Type", "").startswith("text/html"):
        return False
    return "Content-Disposition" not in response.headers and not response.content.lstrip()[:15].lower().startswith(
        b"<!doctype html"
    )


class RefusedFormMiddleware(MiddlewareMixin):
    """A form of allauth's that is shown again with its errors is answered 422, as all others here are."""

    def process_template_response(self, request: HttpRequest, response: TemplateResponse) -> TemplateResponse:
        form = (response.context_data or {}).get("form")
        if request.method == "POST" and response.status_code == 200 and form is not None and form.is_bound and form.errors:
            response.status_code = 422
        return response


class LeavingMiddleware(MiddlewareMixin):
    """A form leads to pages of this site only (form-action of the policy), and browsers hold its redirects against it, too.

    So a sign-in that goes on elsewhere is answered with a page that goes on by itself.
    """

    def process_response(self, request: HttpRequest, response: HttpResponse) -> HttpResponse:
        url = response.headers.get("Location", "")
        leads_away = request.method == "POST" and response.status_code in (302, 303) and urlsplit(url).scheme in ("http", "https")
        host = urlsplit(url).netloc if leads_away else ""
        if not host or host == request.get_host():
            return response
        page = render(request, "account/leaving.html", {"url": url, "host": host})
        page.cookies = response.cookies
        add_never_cache_headers(page)
        return page
