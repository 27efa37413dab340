"""While somebody looks as another, no page offers what the door would refuse: the style sheet hides every such control.

What it hides is read from the style sheet itself and matched against the pages, as a browser would.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cssselect2  # type: ignore[import-untyped]
import lxml.html
import pytest
from allauth.account.internal.flows.login import AUTHENTICATION_METHODS_SESSION_KEY
from allauth.account.models import EmailAddress
from django.conf import settings
from django.test import Client
from django.urls import reverse

from orgs.permissions import Permission
from orgs.services.members import grant_role
from orgs.services.roles import GRANTABLE, create_role
from proxy.models import RoutingChoice
from tests.actors import World
from tests.orgs.test_routes import MORE, _nothing, arguments_of, own_routes
from tests.orgs.test_viewing import looking

# Those where controls stand among what is only shown.
PAGES = (
    "orgs:view_as", "orgs:settings", "guardrails:key", "guardrails:limits", "members:list",
    "invitations:list", "roles:list", "audit:list", "provider_keys:list", "policies:policy", "routing:page", "presets:list",
    "sso_console:connection", "sso_console:domains",
)  # fmt: skip
# Outside the organisation: what is the viewer's own.
OWN_PAGES = (
    "account:profile", "tokens:list", "orgs:new_organization", "account_email", "usersessions_list", "account_set_password",
    "mfa_activate_totp", "mfa_add_webauthn",
)  # fmt: skip
# A script sends the one; in a test nobody has signed in elsewhere.
NEED_MORE = ("mfa_add_webauthn", "usersessions_list")
# What sends a change from the content of a page: buttons of forms that post, and whatever posts by itself.
OFFERS = """
//*[@id="content"]//form[@method="post" and not(@action="/accounts/logout/")]//*[
    self::button or self::input[@type="submit" or @type="image"]
][not(@type="button" or @type="reset")]
| //*[@id="content"]//*[not(self::form) and (@hx-post or @hx-put or @hx-patch or @hx-delete)]
"""


def hiding() -> str:
    """The selector of the rule that hides them."""
    sheet = (Path(settings.BASE_DIR) / "static/css/parts.css").read_text()
    [rule] = re.findall(r"^(\S*:has\(\.gh-looking\).*?) \{ display: none; \}$", sheet, re.MULTILINE)
    return str(rule)


def left_over(html: bytes | str) -> list[str]:
    """Controls that a page offers all the same."""
    root = lxml.html.fromstring(html)
    wrapped = cssselect2.ElementWrapper.from_html_root(root)
    hidden = [found.etree_element for found in wrapped.query_all(hiding())]
    offers = [one for one in root.xpath(OFFERS) if not any(at in hidden for at in (one, *one.iterancestors()))]
    return [lxml.html.tostring(one, encoding="unicode")[:200] for one in offers]


def just_shown_who_one_is(client: Client) -> None:
    session = client.session
    session[AUTHENTICATION_METHODS_SESSION_KEY] = [{"method": "password", "at": time.time()}]
    session.save()


@pytest.fixture
def powerful(world: World) -> World:
    """Mia may do all but one thing, everywhere: so Alice may look as her, and every page has its forms."""
    alice = world.actor("alice")
    allowed = GRANTABLE - {Permission.TOP_UP}
    grant_role(
        world.mia, role=create_role(world.root, name="All but one", permissions=allowed, by=alice), group=world.root, by=alice
    )
    RoutingChoice.objects.create(organization=world.acme, auto_candidates=["small", "large"])
    return world


def addresses(world: World) -> Iterator[str]:
    arguments_of_route = {route.name: route.arguments for route in own_routes()}
    makers = {MORE.get(name.partition(":")[0], _nothing) for name in PAGES}
    arguments = arguments_of(world)
    for maker in makers:
        arguments |= maker(world)
    for name in PAGES:
        yield reverse(name, kwargs={one: value for one, value in arguments.items() if one in arguments_of_route[name]})


def test_no_page_offers_a_change(powerful: World) -> None:
    client = looking(powerful, "alice", "mia")
    for address in addresses(powerful):
        page = client.get(address)
        assert page.status_code == 200, address
        assert left_over(page.content) == [], address
        assert lxml.html.fromstring(page.content).xpath(OFFERS), f"{address} has nothing to hide"


def test_no_page_of_ones_own_offers_one_either(powerful: World) -> None:
    client = looking(powerful, "alice", "mia")
    just_shown_who_one_is(client)
    EmailAddress.objects.create(user=powerful.alice, email=powerful.alice.email, primary=True, verified=True)
    for name in OWN_PAGES:
        page = client.get(reverse(name))
        assert page.status_code == 200, name
        assert left_over(page.content) == [], name
        assert lxml.html.fromstring(page.content).xpath(OFFERS) or name in NEED_MORE, f"{name} has nothing to hide"


@pytest.mark.parametrize(
    ("inside", "offered"),
    [
        ('<form method="post"><button>Save</button></form>', 0),
        ('<form method="post"><button type="submit">Save</button></form>', 0),
        ('<form method="post"><input type="submit"></form>', 0),
        ('<form method="post"><button type="button">Show</button></form>', 0),
        ('<form method="get"><button>Search</button></form>', 0),
        ('<form method="post" action="/accounts/logout/"><button type="submit">Sign out</button></form>', 0),
        ('<form method="post"><input type="image"></form>', 1),
        ('<a hx-post="/x/">Do it</a>', 1),
        ('<div class="gh-menu"><a hx-post="/x/">Do it</a></div>', 0),
    ],
)
def test_what_the_style_sheet_hides_is_what_it_says(inside: str, offered: int) -> None:
    page = '<html><body><div class="gh-shell">{}<main class="gh-page" id="content">{}</main></div></body></html>'
    assert len(left_over(page.format('<div class="gh-looking"></div>', inside))) == offered
    without: Any = lxml.html.fromstring(page.format("", inside)).xpath(OFFERS)
    assert len(left_over(page.format("", inside))) == len(without), "who looks with its own eyes sees all of it"
