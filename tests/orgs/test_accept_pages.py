"""Accepting an invitation in the browser: with and without an account, and every way in which it does not work."""

from datetime import UTC, datetime
from typing import Any

import pytest
from allauth.account.models import EmailAddress
from django.contrib.messages import get_messages
from django.test import Client
from django.utils import timezone
from django.utils.html import escape

from orgs.models import Invitation, Membership, Organization, User
from orgs.services.invitations import fresh_mail_token, invite, link_token, revoke_invitation
from tests.actors import World, make_user

ADDRESS = "ada@example.test"
PASSWORD = "correct horse battery staple"


def link(invitation: Invitation) -> str:
    return f"/invite/{link_token(invitation)}/"


def signed_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def words(response: Any) -> str:
    text: str = response.content.decode()
    return text


def belongs(user: User, world: World) -> bool:
    return Membership.objects.filter(user=user, organization=world.acme).exists()


def test_one_click_for_who_is_signed_in(world: World) -> None:
    invitation = invite(world.gateway, by=world.actor("sam"))
    ada = make_user(ADDRESS)
    client = signed_in(ada)
    page = client.get(link(invitation))
    assert "Join as" in words(page)
    assert page.headers["cache-control"].startswith("max-age=0")
    assert not belongs(ada, world)
    address = link(invitation)
    assert client.post(address).headers["location"] == f"/o/{world.acme.slug}/"
    again = client.post(address)
    for answer in (again, client.get(address)):
        assert f"You are a member of {world.acme} already" in words(answer)
        assert f'href="/o/{world.acme.slug}/"' in words(answer)
        assert "cannot be accepted" not in words(answer)
    assert again.status_code == 422
    assert "This invitation was accepted already. Ask for a new one." in words(signed_in(world.charlie).get(address))


def test_who_invites_and_who_is_invited_read_the_same_moment(world: World) -> None:
    """By the clock of the organisation, whose day may be another than that of the server."""
    Organization.objects.filter(pk=world.acme.pk).update(time_zone="Asia/Tokyo")
    invitation = invite(world.gateway, by=world.actor("sam"))
    Invitation.objects.filter(pk=invitation.pk).update(expires_at=datetime(2036, 12, 6, 20, 30, tzinfo=UTC))
    assert "Dec 7, 2036, 05:30 (Asia/Tokyo)" in words(Client().get(link(invitation)))
    client = signed_in(world.sam)
    assert "Dec 7, 2036, 05:30" in words(client.get(f"/o/{world.acme.slug}/invitations/"))
    assert "until Dec 7, 2036, 05:30" in words(client.get(f"/o/{world.acme.slug}/invitations/{invitation.pk}/link/"))
    Invitation.objects.filter(pk=invitation.pk).update(expires_at=datetime(2026, 1, 6, 20, 30, tzinfo=UTC))
    assert "This invitation expired on Jan 7, 2026." in words(Client().get(link(invitation)))


def test_a_suspended_member_is_not_sent_to_a_console_that_does_not_open(world: World) -> None:
    invitation = invite(world.gateway, by=world.actor("sam"), max_uses=1)
    client = signed_in(make_user(ADDRESS))
    client.post(link(invitation))
    Membership.objects.filter(organization=world.acme, user__email=ADDRESS).update(suspended_at=timezone.now())
    page = words(client.get(link(invitation)))
    assert "accepted already" in page
    assert f'href="/o/{world.acme.slug}/"' not in page


@pytest.mark.parametrize("at_the_root", [True, False])
def test_the_welcome_names_the_group_where_it_is_not_the_whole(world: World, at_the_root: bool) -> None:
    invitation = invite(world.root if at_the_root else world.gateway, by=world.actor("alice"))
    client = signed_in(make_user(ADDRESS))
    answer = client.post(link(invitation))
    said = [str(message) for message in get_messages(answer.wsgi_request)]
    assert said == [f"Welcome to {world.acme}." + ("" if at_the_root else " You belong to gateway.")]


def test_who_has_no_account_signs_up_and_comes_back(world: World, settings: Any) -> None:
    settings.SIGN_UP_OPEN = False
    invitation = invite(world.gateway, by=world.actor("sam"))
    client, address = Client(), link(invitation)
    assert "form" not in (client.get("/accounts/signup/").context or {})
    page = client.get(address)
    assert f"next={address.replace('/', '%2F')}" in page.context["signup_url"]
    assert client.post(address).headers["location"].startswith("/accounts/login/?next=")
    form = {"email": ADDRESS, "password1": PASSWORD, "password2": PASSWORD, "next": address}
    assert client.post(page.context["signup_url"], form).headers["location"] == address
    assert client.post(address).status_code == 302
    ada = User.objects.get(email=ADDRESS)
    assert belongs(ada, world)
    assert not EmailAddress.objects.get(user=ada).verified


def test_each_thing_that_is_wrong_with_a_field_stands_on_a_line_of_its_own(world: World) -> None:
    form = {"email": ADDRESS, "password1": "12345", "password2": "12345"}
    page = Client().post("/accounts/signup/", form)
    errors = page.context["form"].errors["password1"]
    assert len(errors) > 1
    assert "".join(f"<div>{escape(error)}</div>" for error in errors) in words(page)


def test_an_invitation_for_one_address_signs_up_no_other_where_strangers_may_not(world: World, settings: Any) -> None:
    settings.SIGN_UP_OPEN = False
    client = Client()
    client.get(link(invite(world.gateway, email=ADDRESS, by=world.actor("sam"))))
    form = {"email": "else@example.test", "password1": PASSWORD, "password2": PASSWORD}
    assert f"The invitation is for {ADDRESS}." in words(client.post("/accounts/signup/", form))
    assert not User.objects.filter(email="else@example.test").exists()
    assert client.post("/accounts/signup/", {**form, "email": ADDRESS.upper()}).status_code == 302


def test_the_mail_of_the_invitation_verifies_the_address(world: World, settings: Any) -> None:
    settings.ACCOUNT_EMAIL_VERIFICATION = "mandatory"
    invitation = invite(world.gateway, email=ADDRESS, by=world.actor("sam"))
    client, address = Client(), f"/invite/{fresh_mail_token(invitation)}/"
    page = client.get(address)
    assert page.status_code == 200
    form = {"email": ADDRESS, "password1": PASSWORD, "password2": PASSWORD, "next": address}
    assert client.post(page.context["signup_url"], form).headers["location"] == address
    assert client.post(address).status_code == 302
    ada = User.objects.get(email=ADDRESS)
    assert EmailAddress.objects.get(user=ada).verified
    assert belongs(ada, world)


def test_a_link_that_was_passed_on_verifies_nothing(world: World) -> None:
    """Whoever made the link could otherwise claim an address that is not theirs."""
    invitation = invite(world.gateway, email=ADDRESS, by=world.actor("sam"))
    client, address = Client(), link(invitation)
    page = client.get(address)
    form = {"email": ADDRESS, "password1": PASSWORD, "password2": PASSWORD, "next": address}
    client.post(page.context["signup_url"], form)
    refused = client.post(address)
    assert (refused.status_code, "Verify the address" in words(refused)) == (422, True)
    assert not belongs(User.objects.get(email=ADDRESS), world)


def test_the_sign_in_leads_back_to_the_invitation_even_by_another_way(world: World) -> None:
    invitation = invite(world.gateway, by=world.actor("sam"))
    client, address = Client(), link(invitation)
    client.get(address)
    client.force_login(make_user(ADDRESS))
    assert client.get("/").headers["location"] == address
    assert client.get("/").headers["location"] != address


def test_an_invitation_for_somebody_else_says_so(world: World) -> None:
    invitation = invite(world.gateway, email=ADDRESS, by=world.actor("sam"))
    other = make_user("other@example.test")
    page = signed_in(other).get(link(invitation))
    assert "you are signed in as other@example.test" in words(page)
    assert "use another account" in words(page)
    assert signed_in(other).post(link(invitation)).status_code == 422
    assert not belongs(other, world)


@pytest.mark.parametrize("signed", [True, False])
def test_a_closed_invitation_tells_nothing_but_why(world: World, signed: bool) -> None:
    invitation = invite(world.gateway, by=world.actor("sam"))
    address = link(invitation)
    revoke_invitation(invitation, by=world.actor("sam"))
    page = (signed_in(world.noah) if signed else Client()).get(address)
    assert "taken back" in words(page)
    assert "gateway" not in words(page)
    assert page.context["invitation"] is None


def test_a_member_is_told_and_led_to_the_console(world: World) -> None:
    invitation = invite(world.gateway, by=world.actor("sam"))
    page = signed_in(world.mia).get(link(invitation))
    assert f"You are a member of {world.acme} already" in words(page)
    assert f'href="/o/{world.acme.slug}/"' in words(page)


def test_what_is_no_invitation_is_not_there(world: World) -> None:
    for token in ("x", "x" * 43, "x" * 300):
        page = Client().get(f"/invite/{token}/")
        assert (page.status_code, "no such invitation" in words(page)) == (404, True)


def test_accepting_wants_the_token_of_the_form(world: World) -> None:
    invitation = invite(world.gateway, by=world.actor("sam"))
    client = Client(enforce_csrf_checks=True)
    client.force_login(make_user(ADDRESS))
    assert client.post(link(invitation)).status_code == 403
    page = client.get(link(invitation))
    assert page.headers["x-frame-options"] == "DENY"
