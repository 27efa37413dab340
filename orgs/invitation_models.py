"""Invitations, and lists of people to invite. Known as `orgs.models.Invitation` and `orgs.models.MemberImport`."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q
from django.utils import timezone

from orgs.permissions import RoleName


class Invitation(models.Model):
    """A way into a group, by link or by mail, for so many people until some moment.

    The link is found by the digest of its token, and kept sealed under the key ring while the invitation is open, so that
    it can be copied again. A mail carries a token of its own, of which only the digest is kept: who shows that one reads
    the mails of `email`.
    """

    organization = models.ForeignKey("orgs.Organization", on_delete=models.CASCADE, related_name="invitations")
    group = models.ForeignKey("orgs.Group", on_delete=models.PROTECT, related_name="invitations")
    role = models.CharField(max_length=20, choices=[(role.value, role.value.title()) for role in RoleName], blank=True)
    custom_role = models.ForeignKey("orgs.Role", on_delete=models.CASCADE, null=True, blank=True, related_name="invitations")
    email = models.EmailField(blank=True, help_text="Only this address may accept; empty: whoever has the link.")
    name = models.CharField(max_length=120, blank=True, help_text="What the person is called, until it says so itself.")
    digest = models.BinaryField(max_length=32, unique=True)
    mail_digest = models.BinaryField(max_length=32, unique=True, null=True, blank=True)
    sealed = models.TextField(blank=True)
    max_uses = models.PositiveIntegerField(null=True, blank=True)
    uses = models.PositiveIntegerField(default=0)
    expires_at = models.DateTimeField()
    revoked_at = models.DateTimeField(null=True, blank=True)
    sent_at = models.DateTimeField(null=True, blank=True)
    send_error = models.CharField(max_length=200, blank=True)
    created_by = models.ForeignKey("orgs.User", on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(max_uses=None) | Q(uses__lte=F("max_uses")), name="invitation_within_its_uses"),
            models.CheckConstraint(condition=Q(role="") | Q(custom_role=None), name="invitation_to_one_role"),
        ]
        indexes = [models.Index(fields=["organization", "email"], name="invitation_by_address")]

    def __str__(self) -> str:
        return f"{self.email or 'link'} to {self.group}"

    @property
    def status(self) -> str:
        """One of open, accepted, used up, expired, revoked."""
        if self.max_uses is not None and self.uses >= self.max_uses:
            return "accepted" if self.max_uses == 1 else "used up"
        if self.revoked_at:
            return "revoked"
        return "expired" if self.expires_at <= timezone.now() else "open"

    @property
    def status_words(self) -> str:
        return {"revoked": "Taken back"}.get(self.status, self.status.capitalize())

    @property
    def tone(self) -> str:
        return {"open": "info", "accepted": "ok", "used up": "ok"}.get(self.status, "muted")

    @property
    def is_open(self) -> bool:
        return self.status == "open"


class MemberImport(models.Model):
    """A file of people, read and judged, and then invited. `rows` are those of `orgs/member_files.py`."""

    class Status(models.TextChoices):
        READ = "read", "To be confirmed"
        QUEUED = "queued", "Waiting"
        RUNNING = "running", "Inviting"
        DONE = "done", "Done"

    organization = models.ForeignKey("orgs.Organization", on_delete=models.CASCADE, related_name="member_imports")
    file_name = models.CharField(max_length=120)
    rows = models.JSONField(default=list)
    status = models.CharField(max_length=10, choices=Status, default=Status.READ)
    done = models.PositiveIntegerField(default=0)
    created_by = models.ForeignKey("orgs.User", on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField(default=timezone.now)

    def __str__(self) -> str:
        return self.file_name
