"""Sign-up and sign-in, where they differ from allauth's own way.

Guarantees: whoever signs up has a personal account from the same transaction; accounts are never joined because
two tenants' identity providers name the same address; a page or answer for strangers lists the installation's own
sign-in providers only, never those that an organisation set up for itself.
"""

from __future__ import annotations

from typing import Any, cast

from allauth.account.adapter import DefaultAccountAdapter
from allauth.account.internal.stagekit import clear_login
from allauth.mfa.adapter import DefaultMFAAdapter
from allauth.mfa.models import Authenticator
from allauth.socialaccount.adapter import DefaultSocialAccountAdapter
from allauth.socialaccount.models import SocialApp, SocialLogin
from django.conf import settings
from django.contrib import messages
from django.contrib.auth.base_user import AbstractBaseUser
from django.core.exceptions import ValidationError
from django.core.mail import EmailMultiAlternatives
from django.db import transaction
from django.forms import BaseForm
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect

from gateway_project.lib import crypto
from orgs import sign_in_mail, viewing
from orgs.mail import compose, is_printed
from orgs.models import User
from orgs.origin import origin_of
from orgs.services.invitations import find
from orgs.services.organizations import create_personal_account
from orgs.sign_in_events import record_blocked, record_refused
from orgs.sso import required

# Pages of allauth on which an address is claimed.
SIGNS_UP = {"account_signup", "socialaccount_signup"}
TAKES_ADDRESSES = {*SIGNS_UP, "account_email"}

SECOND_FACTOR = "second factor"
# Of a connection without an address, such as a unix socket: all of them are limited together.
NO_ADDRESS = "0.0.0.0"  # noqa: S104 - nothing listens here
# The token of the invitation that a session came with.
INVITATION = "invitation"


class AccountAdapter(DefaultAccountAdapter):
    def is_open_for_signup(self, request: HttpRequest) -> bool:
        """Whoever is invited may sign up where strangers may not."""
        return bool(settings.SIGN_UP_OPEN) or self._is_invited(request)

    def _is_invited(self, request: HttpRequest) -> bool:
        found = find(request.session.get(INVITATION, ""))
        return found is not None and found.invitation.is_open

    def logout(self, request: HttpRequest) -> None:
        """Whoever signs out while looking as somebody else ends that too."""
        if isinstance(request.user, User):
            viewing.end(request.session, by=request.user, origin=origin_of(request))
        super().logout(request)

    def save_user(self, request: HttpRequest, user: AbstractBaseUser, form: BaseForm, commit: bool = True) -> User:
        with transaction.atomic():
            saved = cast(User, super().save_user(request, user, form, commit=commit))
            if commit:
                create_personal_account(saved)
        return saved

    def pre_authenticate(self, request: HttpRequest, **credentials: Any) -> None:
        try:
            super().pre_authenticate(request, **credentials)
        except ValidationError:
            record_blocked(request, credentials.get("email", ""))
            raise

    def authentication_failed(self, request: HttpRequest, **credentials: Any) -> None:
        """A wrong password, at sign-in or where it is asked for once more."""
        record_refused(request, credentials.get("email", ""), factor="password")

    def render_mail(
        self, template_prefix: str, email: str | list[str], context: dict[str, Any], headers: dict[str, str] | None = None
    ) -> EmailMultiAlternatives:
        """allauth writes to one address at a time, whatever its types say."""
        mail = compose(sign_in_mail.message(template_prefix, context), to=cast(str, email))
        mail.extra_headers.update(headers or {})
        return mail

    def add_message(
        self,
        request: HttpRequest,
        level: int,
        message_template: str | None = None,
        message_context: dict[str, Any] | None = None,
        extra_tags: str = "",
        message: str | None = None,
    ) -> None:
        """Its template is told whether mails reach anybody."""
        context = {**(message_context or {}), "mail_is_printed": is_printed()}
        super().add_message(request, level, message_template, context, extra_tags, message)

    def get_client_ip(self, request: HttpRequest) -> str:
        """What limits are counted by, and sessions and messages name: the caller behind proxies that are trusted."""
        return origin_of(request).ip or NO_ADDRESS

    def pre_login(self, request: HttpRequest, user: AbstractBaseUser, **facts: Any) -> HttpResponse | None:
        """Asked before every sign-in, whatever way it is tried, the first factor being right."""
        elsewhere = (
            None if (facts.get("signal_kwargs") or {}).get("sso") else required.instead(cast(User, user), origin_of(request))
        )
        if elsewhere is None:
            answer: HttpResponse | None = super().pre_login(request, user, **facts)
            return answer
        clear_login(request)
        messages.info(request, f"Members of {elsewhere.organization} sign in here.")
        return redirect("sso:start", slug=elsewhere.slug)

    def clean_email(self, email: str) -> str:
        """Nobody takes an address whose domain signs in elsewhere by typing it at sign-up, or into an account."""
        cleaned: str = super().clean_email(email)
        asked = getattr(self.request, "resolver_match", None)
        if asked and asked.url_name in TAKES_ADDRESSES and required.connection_for(cleaned, required=True):
            raise ValidationError("Addresses of this domain sign in by their organisation's single sign-on.")
        if asked and asked.url_name in SIGNS_UP and not settings.SIGN_UP_OPEN:
            self._refuse_uninvited(cleaned)
        return cleaned

    def _refuse_uninvited(self, email: str) -> None:
        """An invitation for one address makes no accounts for others. Raises ValidationError."""
        found = find(self.request.session.get(INVITATION, ""))
        if found and found.invitation.email and found.invitation.email != email.lower():
            raise ValidationError(f"The invitation is for {found.invitation.email}.")


class UnknownProvider(Http404, SocialApp.DoesNotExist):
    """For Django a page that does not exist, for allauth an app that does not: it asks in both ways."""


class SocialAccountAdapter(DefaultSocialAccountAdapter):
    def save_user(self, request: HttpRequest, sociallogin: SocialLogin, form: BaseForm | None = None) -> User:
        with transaction.atomic():
            saved: User = super().save_user(request, sociallogin, form)
            create_personal_account(saved)
        return saved

    def populate_user(self, request: HttpRequest, sociallogin: SocialLogin, data: dict[str, Any]) -> User:
        user: User = super().populate_user(request, sociallogin, data)
        parts = (data.get("first_name"), data.get("last_name"))
        user.name = (data.get("name") or " ".join(part for part in parts if part))[:120]
        return user

    def list_apps(self, request: HttpRequest, provider: str | None = None, client_id: str | None = None) -> list[SocialApp]:
        """A provider's own sign-in address finds its app; unnamed, only apps of the settings, which have no row, are listed."""
        apps: list[SocialApp] = super().list_apps(request, provider=provider, client_id=client_id)
        return apps if provider or client_id else [app for app in apps if app.pk is None]

    def get_app(self, request: HttpRequest, provider: str, client_id: str | None = None) -> SocialApp:
        """Raises UnknownProvider."""
        try:
            app: SocialApp = super().get_app(request, provider=provider, client_id=client_id)
        except SocialApp.DoesNotExist as error:
            raise UnknownProvider(f"no such sign-in: {provider}") from error
        return app

    def can_authenticate_by_email(self, login: SocialLogin, email: str) -> bool:
        return False


class MFAAdapter(DefaultMFAAdapter):
    """Secrets of authenticator apps and seeds of recovery codes are encrypted at rest."""

    def get_totp_issuer(self) -> str:
        return "Gatehouse"

    def generate_authenticator_name(self, user: AbstractBaseUser, type: Authenticator.Type) -> str:
        return f"Passkey {Authenticator.objects.filter(user=user, type=type).count() + 1}"

    def encrypt(self, text: str) -> str:
        return crypto.encrypt(text, bound_to=SECOND_FACTOR)

    def decrypt(self, encrypted_text: str) -> str:
        return crypto.decrypt(encrypted_text, bound_to=SECOND_FACTOR)
