"""What an organisation's directory told by SCIM: its people and groups, and what they were given for it.

Django finds these models through orgs/models.py. Nothing here names a model of another module: it is loaded by them.
"""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.db.models.functions import Lower
from django.utils import timezone

NAME_LENGTH = 255


class Provisioning(models.Model):
    """An organisation's door for its directory. Of the token only a digest is kept; without one nothing passes."""

    organization = models.OneToOneField("orgs.Organization", on_delete=models.CASCADE, related_name="provisioning")
    group = models.ForeignKey(
        "orgs.Group", on_delete=models.PROTECT, related_name="+", help_text="Of which everybody is a member."
    )
    digest = models.BinaryField(max_length=32, unique=True, null=True)
    last_four = models.CharField(max_length=4, blank=True)
    issued_at = models.DateTimeField(null=True)
    issued_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+", null=True)
    last_used_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return "Provisioning (SCIM)"


class DirectoryUser(models.Model):
    """A person as the directory knows it. `group`: the node whose member it became by being there.

    `memberships` and `grants` are what was given for the directory's sake, and what it may take away again. The moment of
    `deactivated_at` is also that of the suspensions made then: those are the ones that end with it.
    """

    organization = models.ForeignKey("orgs.Organization", on_delete=models.CASCADE, related_name="directory_users")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    group = models.ForeignKey("orgs.Group", on_delete=models.PROTECT, related_name="+")
    user_name = models.CharField(max_length=NAME_LENGTH)
    external_id = models.CharField(max_length=NAME_LENGTH, blank=True)
    display_name = models.CharField(max_length=NAME_LENGTH, blank=True)
    given_name = models.CharField(max_length=NAME_LENGTH, blank=True)
    family_name = models.CharField(max_length=NAME_LENGTH, blank=True)
    formatted_name = models.CharField(max_length=NAME_LENGTH, blank=True)
    emails = models.JSONField(default=list, help_text="As SCIM has them: value, type, primary, display.")
    made_account = models.BooleanField(default=False, help_text="Whether the account was made for it: then its name follows.")
    deactivated_at = models.DateTimeField(null=True)
    memberships = models.ManyToManyField("orgs.Membership", related_name="+")
    grants = models.ManyToManyField("orgs.RoleGrant", related_name="+")
    created_at = models.DateTimeField(default=timezone.now)
    changed_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [
            models.UniqueConstraint("organization", Lower("user_name"), name="directory_user_name_once_per_organization"),
            models.UniqueConstraint(fields=["organization", "user"], name="directory_user_is_one_account"),
        ]

    def __str__(self) -> str:
        return self.user_name


class DirectoryGroup(models.Model):
    """A group of the directory. Linked to a node, it makes its people members there, with a role where one is chosen: a
    shipped one by name, or a custom one.
    """

    organization = models.ForeignKey("orgs.Organization", on_delete=models.CASCADE, related_name="directory_groups")
    display_name = models.CharField(max_length=NAME_LENGTH)
    external_id = models.CharField(max_length=NAME_LENGTH, blank=True)
    people = models.ManyToManyField(DirectoryUser, related_name="directory_groups")
    group = models.ForeignKey("orgs.Group", on_delete=models.PROTECT, related_name="+", null=True)
    role = models.CharField(max_length=20, blank=True)
    custom_role = models.ForeignKey("orgs.Role", on_delete=models.PROTECT, null=True, related_name="directory_groups")
    created_at = models.DateTimeField(default=timezone.now)
    changed_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [
            models.UniqueConstraint("organization", Lower("display_name"), name="directory_group_name_once_per_organization"),
            models.CheckConstraint(
                condition=Q(role="", custom_role=None) | Q(group__isnull=False), name="role_of_a_directory_group_has_a_node"
            ),
            models.CheckConstraint(condition=Q(role="") | Q(custom_role=None), name="directory_group_gives_one_role"),
        ]

    def __str__(self) -> str:
        return self.display_name

    @property
    def role_words(self) -> str:
        """What people call it; nothing where it gives none."""
        return self.custom_role.name if self.custom_role else self.role.title()
