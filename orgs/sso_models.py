"""Domains that an organisation has proven to be its own, and the identity providers its people sign in at.

Django finds these models through orgs/models.py. Nothing here names a model of another module: it is loaded by them.
"""

from __future__ import annotations

import datetime
import secrets
import string
from datetime import timedelta

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Lower
from django.utils import timezone

SLUG_LETTERS = string.ascii_lowercase + string.digits
SLUG_LENGTH = 16
URL_LENGTH = 500
# What stands before the token in the TXT record of a domain.
TXT_PREFIX = "gatehouse-verification="


def new_slug() -> str:
    return "".join(secrets.choice(SLUG_LETTERS) for _ in range(SLUG_LENGTH))


def new_token() -> str:
    return secrets.token_hex(16)


class Domain(models.Model):
    """A name behind the @ of addresses. Only a verified one counts, and it is verified for one organisation only."""

    class Proof(models.TextChoices):
        DNS = "dns", "DNS record"
        EMAIL = "email", "E-mail to the postmaster"

    organization = models.ForeignKey("orgs.Organization", on_delete=models.CASCADE, related_name="domains")
    name = models.CharField(max_length=253, help_text="Lower case, in ASCII.")
    token = models.CharField(max_length=40, default=new_token)
    verified_at = models.DateTimeField(null=True, blank=True)
    proof = models.CharField(max_length=10, choices=Proof, blank=True)
    checked_at = models.DateTimeField(null=True, blank=True)
    missing_since = models.DateTimeField(null=True, blank=True, help_text="Since when its record is not found any more.")
    code_digest = models.BinaryField(max_length=32, null=True)
    code_sent_at = models.DateTimeField(null=True, blank=True)
    code_attempts = models.SmallIntegerField(default=0)
    sso_required = models.BooleanField(default=False, help_text="Its members sign in by single sign-on only.")
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField(default=timezone.now)

    # An e-mailed code works this long, and for so many wrong tries.
    CODE_LIFE = timedelta(hours=24)
    CODE_ATTEMPTS = 5
    # How often a record is looked for again, and for how long a domain counts whose record is gone.
    CHECKED_EVERY = timedelta(hours=24)
    GRACE = timedelta(days=7)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["organization", "name"], name="domain_once_per_organization"),
            models.UniqueConstraint(fields=["name"], condition=Q(verified_at__isnull=False), name="domain_of_one_organization"),
            models.CheckConstraint(condition=Q(name=Lower(F("name"))), name="domain_is_lower_case"),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def txt_record(self) -> str:
        return TXT_PREFIX + self.token

    @property
    def lapses_at(self) -> datetime.datetime | None:
        """The moment from which it counts as unproven, unless its record is back; None: nothing is missing."""
        return self.missing_since + self.GRACE if self.missing_since else None

    @property
    def postmaster(self) -> str:
        return f"postmaster@{self.name}"

    def code_is_open(self, now: datetime.datetime) -> bool:
        """Whether a code that was sent can still be typed."""
        sent = self.code_sent_at
        return bool(self.code_digest and sent and now < sent + self.CODE_LIFE and self.code_attempts < self.CODE_ATTEMPTS)


class SsoConnection(models.Model):
    """An identity provider of an organisation. `slug` names it in its addresses; one of them at most is in use."""

    class Kind(models.TextChoices):
        OIDC = "oidc", "OpenID Connect"
        SAML = "saml", "SAML 2.0"

    organization = models.ForeignKey("orgs.Organization", on_delete=models.CASCADE, related_name="sso_connections")
    slug = models.CharField(max_length=SLUG_LENGTH, unique=True, default=new_slug)
    kind = models.CharField(max_length=10, choices=Kind)
    name = models.CharField(max_length=120)
    issuer = models.CharField(max_length=URL_LENGTH, blank=True, help_text="OIDC: the issuer. SAML: the provider's entity id.")
    client_id = models.CharField(max_length=255, blank=True)
    secret_encrypted = models.TextField(blank=True)
    metadata_url = models.CharField(max_length=URL_LENGTH, blank=True)
    metadata_read_at = models.DateTimeField(null=True, blank=True)
    sso_url = models.CharField(max_length=URL_LENGTH, blank=True)
    certificates = ArrayField(models.TextField(), default=list, blank=True, help_text="DER in base64.")
    idp_initiated = models.BooleanField(default=False, help_text="SAML: answers to no request of ours are accepted.")
    admits_new = models.BooleanField(default=True, help_text="Who comes first by single sign-on becomes a member.")
    group = models.ForeignKey("orgs.Group", on_delete=models.PROTECT, related_name="+", help_text="Of which they become members.")
    enabled = models.BooleanField(default=False)
    tested_at = models.DateTimeField(null=True, blank=True)
    test_passed = models.BooleanField(null=True, blank=True)
    test_result = models.CharField(max_length=300, blank=True)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["organization"], condition=Q(enabled=True), name="one_sso_connection_in_use"),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def is_open(self) -> bool:
        """Whether people sign in by it now."""
        return self.enabled and self.organization.frozen_at is None

    @property
    def is_configured(self) -> bool:
        """Whether it holds all that the identity provider has to tell."""
        if self.kind == self.Kind.OIDC:
            return bool(self.issuer and self.client_id and self.secret_encrypted)
        return bool(self.issuer and self.sso_url and self.certificates)

    @property
    def secret_bound_to(self) -> str:
        """What the encrypted secret is bound to: moved to another row or organisation it does not open."""
        return f"{self.organization_id}|orgs_ssoconnection|{self.pk}|secret"


class SsoIdentity(models.Model):
    """A person as a connection's identity provider knows it. `uid` is OIDC's `sub` or SAML's NameID."""

    connection = models.ForeignKey(SsoConnection, on_delete=models.CASCADE, related_name="identities")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="sso_identities")
    uid = models.CharField(max_length=512)
    created_at = models.DateTimeField(default=timezone.now)
    last_used_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["connection", "uid"], name="sso_identity_of_one_account"),
            models.UniqueConstraint(fields=["connection", "user"], name="one_sso_identity_per_account"),
        ]

    def __str__(self) -> str:
        return f"{self.user} at {self.connection}"
