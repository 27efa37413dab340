"""A passkey in a browser: registered, then the only thing that its owner needs to sign in."""

import re
import secrets

import pytest
from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from django.conf import global_settings
from playwright.sync_api import Page, expect
from pytest_django import Settings

from orgs.models import AuditEvent, User
from tests.actors import make_user
from tests.gateways import Gateway

pytestmark = pytest.mark.usefixtures("committed_db")
PASSWORD = "a-long-enough-passphrase"
# A telephone's or laptop's own: it keeps keys, and has just seen its owner's finger.
AUTHENTICATOR = {
    "protocol": "ctap2",
    "transport": "internal",
    "hasResidentKey": True,
    "hasUserVerification": True,
    "isUserVerified": True,
    "automaticPresenceSimulation": True,
}


@pytest.fixture
def mia(settings: Settings) -> User:
    settings.PASSWORD_HASHERS = global_settings.PASSWORD_HASHERS  # the gateway's
    user = make_user(f"mia.{secrets.token_hex(4)}@example.test", name="Mia Moss", password=PASSWORD)
    EmailAddress.objects.create(user=user, email=user.email, primary=True, verified=True)
    return user


def test_a_passkey_is_added_and_signs_in_alone(gateway: Gateway, page: Page, mia: User) -> None:
    # Passkeys belong to names: no browser makes one for 127.0.0.1.
    console = f"http://localhost:{gateway.port}"
    browser = page.context.new_cdp_session(page)
    browser.send("WebAuthn.enable")
    browser.send("WebAuthn.addVirtualAuthenticator", {"options": AUTHENTICATOR})

    page.goto(f"{console}/accounts/login/")
    page.get_by_label("E-mail").fill(mia.email)
    page.get_by_role("button", name="Continue").click()
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_role("button", name="Sign in", exact=True).click()
    expect(page).to_have_url(re.compile(r"/o/mia-moss"))
    page.goto(f"{console}/accounts/2fa/webauthn/add/")
    expect(page.get_by_role("heading", name="Is it you?")).to_be_visible()
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_role("button", name="Continue").click()
    page.get_by_label("Name").fill("My laptop")
    page.get_by_role("button", name="Add it").click()
    expect(page.get_by_role("heading", name="Recovery codes")).to_be_visible()
    assert Authenticator.objects.get(user=mia, type="webauthn").wrap().is_passwordless

    page.context.clear_cookies()
    page.goto(f"{console}/accounts/login/")
    page.get_by_role("button", name="Sign in with a passkey").click()
    expect(page).to_have_url(re.compile(r"/o/mia-moss"))
    actions = AuditEvent.objects.filter(organization=None, object_id=str(mia.pk)).values_list("action", flat=True)
    assert {"second_factor.added", "person.signed_in"} <= set(actions)
