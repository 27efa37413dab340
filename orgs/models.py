"""People, organisations, the tree, applications, API keys and the audit trail.

The tree: an organisation has one root group (level 0) and at most four levels below it. Money, limits
and permissions all follow the path from the root to a key's home group.
"""

from __future__ import annotations

from datetime import UTC
from typing import Any, ClassVar

from django.contrib.auth.models import AbstractBaseUser, BaseUserManager, PermissionsMixin
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Lower
from django.utils import timezone
from mptt.fields import TreeForeignKey
from mptt.models import MPTTModel

from gateway_project.lib.written import Written
from orgs import scim_models as scim_models
from orgs import sso_models as sso_models
from orgs.answered_models import AnsweredRequest as AnsweredRequest
from orgs.chain import GENESIS
from orgs.invitation_models import Invitation as Invitation
from orgs.invitation_models import MemberImport as MemberImport
from orgs.origin import clean_ip
from orgs.permissions import Permission, RoleName, counted, permissions_of

MAX_LEVEL = 4
_ROOT: Written[Group] = Written(lambda organization: Group.objects.filter(organization=organization, parent=None), int)


class Freezable(models.Model):
    """What the operator of the installation can stop, whatever those inside may do (services/freezing.py)."""

    frozen_at = models.DateTimeField(null=True, blank=True)
    frozen_reason = models.CharField(max_length=200, blank=True)

    class Meta:
        abstract = True


_USER: Written[User] = Written(lambda pk: User.objects.filter(pk=pk), int)


class UserManager(BaseUserManager["User"]):
    def get(self, *args: Any, **kwargs: Any) -> User:
        """By nothing but an id, as each page asks who is signed in, with SQL that is written once: of all users, so not of those
        that belong to something, whose managers Django derives from this one."""
        pk = kwargs.get("pk")
        if type(self) is UserManager and isinstance(pk, int) and len(args) + len(kwargs) == 1:
            return _USER.get(pk)
        return super().get(*args, **kwargs)

    def create_user(self, email: str, password: str | None = None, **extra: Any) -> User:
        user = self.model(email=email.strip().lower(), **extra)
        user.set_password(password)
        user.save(using=self._db)
        return user

    def create_superuser(self, email: str, password: str | None = None, **extra: Any) -> User:
        return self.create_user(email, password, is_staff=True, is_superuser=True, **extra)


class User(AbstractBaseUser, PermissionsMixin, Freezable):
    """A person, known by e-mail address. `is_staff` marks an operator of the installation; who is frozen is not `is_active`."""

    email = models.EmailField(unique=True)
    name = models.CharField(max_length=120, blank=True)
    is_active = models.BooleanField(default=True)
    is_staff = models.BooleanField(default=False)
    date_joined = models.DateTimeField(default=timezone.now)

    objects: ClassVar[UserManager] = UserManager()

    USERNAME_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = []

    class Meta:
        constraints = [models.UniqueConstraint(Lower("email"), name="user_email_case_insensitive")]

    def __str__(self) -> str:
        return self.name or self.email

    @property
    def display_name(self) -> str:
        return self.name or self.email.split("@")[0]

    @property
    def initials(self) -> str:
        words = self.display_name.replace(".", " ").split()
        return "".join(word[0] for word in words[:2]).upper() or "?"


class Organization(Freezable):
    class Kind(models.TextChoices):
        COMPANY = "company", "Organisation"
        PERSONAL = "personal", "Personal account"

    name = models.CharField(max_length=120)
    slug = models.SlugField(max_length=60, unique=True)
    kind = models.CharField(max_length=20, choices=Kind, default=Kind.COMPANY)
    time_zone = models.CharField(max_length=64, default="UTC")
    attribution_required = models.BooleanField(
        default=False, help_text="Refuse calls whose key names no application, feature and environment."
    )
    week_start = models.SmallIntegerField(default=0, help_text="The first day of a week: 0 is Monday, 6 is Sunday.")
    fiscal_month = models.SmallIntegerField(default=1, help_text="The month in which the fiscal year begins.")
    reset_hour = models.SmallIntegerField(default=0, help_text="The local hour at which days, weeks, months … begin.")
    admit_unguarded = models.BooleanField(default=False, help_text="Let calls pass while limits cannot be checked.")
    approval_since = models.DateTimeField(
        null=True, blank=True, help_text="Models first offered after this moment need an approval before anyone may call them."
    )
    content_retention_hours = models.SmallIntegerField(
        default=0, help_text="How long contents of calls may be kept, encrypted; 0: not at all."
    )
    content_sample_percent = models.SmallIntegerField(
        default=100, help_text="Of so many calls in a hundred, chosen at random, the answer may be kept."
    )
    zdr_only = models.BooleanField(
        default=False, help_text="Calls go only to deployments that retain nothing, and nothing of them is kept here either."
    )
    second_factor_required = models.BooleanField(
        default=False, help_text="Members without a second factor cannot open any of its pages."
    )
    first_steps_closed_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(default=timezone.now)

    # 30 days.
    MOST_RETENTION_HOURS: ClassVar[int] = 30 * 24

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(week_start__range=(0, 6)), name="week_starts_on_a_day"),
            models.CheckConstraint(condition=Q(fiscal_month__range=(1, 12)), name="fiscal_year_begins_in_a_month"),
            models.CheckConstraint(condition=Q(reset_hour__range=(0, 23)), name="days_begin_at_an_hour"),
            models.CheckConstraint(
                condition=Q(content_retention_hours__range=(0, 30 * 24)), name="contents_are_kept_for_a_month_at_most"
            ),
            models.CheckConstraint(condition=Q(content_sample_percent__range=(1, 100)), name="sample_is_a_share_of_calls"),
            models.CheckConstraint(
                condition=Q(zdr_only=False) | Q(content_retention_hours=0), name="zero_data_retention_keeps_no_contents"
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def root(self) -> Group:
        root = _ROOT.get(self.pk)
        root.organization = self
        return root

    @property
    def initial(self) -> str:
        return self.name[:1].upper()

    def get_absolute_url(self) -> str:
        """Where its console begins; every page of an organisation lies below this address."""
        return f"/o/{self.slug}/"


class Group(MPTTModel):
    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="groups")
    parent = TreeForeignKey("self", on_delete=models.PROTECT, null=True, blank=True, related_name="children")
    name = models.CharField(max_length=120)
    kind = models.CharField(max_length=40, blank=True, help_text="A free label: division, department, project …")
    cost_center = models.CharField(max_length=60, blank=True, db_default="")
    owner = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, blank=True, related_name="+")
    archived_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(default=timezone.now)

    # Written by django-mptt.
    level: int
    lft: int
    rght: int
    tree_id: int

    class MPTTMeta:
        order_insertion_by: ClassVar[list[str]] = ["name"]

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(level__lte=MAX_LEVEL), name="group_at_most_four_levels_below_the_root"),
            models.UniqueConstraint(fields=["organization"], condition=Q(parent=None), name="one_root_group_per_organization"),
            # One organisation, one tree: whatever reads a tree by its id can never meet another tenant's group.
            models.CheckConstraint(condition=Q(tree_id=F("organization_id")), name="group_tree_is_its_organization"),
            # A group is known by its path, to people and in files. What is archived keeps no name from others.
            models.UniqueConstraint(
                "parent", Lower("name"), condition=Q(archived_at=None), name="group_name_once_among_those_in_use_beside_it"
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def path(self) -> list[Group]:
        """From the root to this node, itself included.

        Follows parents, not `lft` and `rght`: those shift under every insertion, so two nodes read at different
        moments cannot be compared by them. Load with `select_related("parent__parent__parent__parent")`.
        """
        return [*(self.parent.path() if self.parent else []), self]

    def words(self) -> str:
        """ "Engineering / Platform"; the root by its own name."""
        return " / ".join(node.name for node in self.path()[1:]) or self.name

    def lineage(self) -> list[int]:
        """Ids from the root to this node; a node's index is its level."""
        return [group.pk for group in self.path()]

    def contains(self, other: Group) -> bool:
        """Whether `other` is this node or lies below it."""
        return self.pk in other.lineage()

    @property
    def closed_by(self) -> Group | None:
        """The archived group, itself or above, that keeps anything new from being made here; None: it is open."""
        return next((group for group in self.path() if group.archived_at), None)


class Membership(models.Model):
    """A person belongs to a node. One person may belong to several nodes of one organisation."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="memberships")
    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="memberships")
    group = models.ForeignKey(Group, on_delete=models.PROTECT, related_name="memberships")
    suspended_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["user", "group"], name="one_membership_per_node")]

    def __str__(self) -> str:
        return f"{self.user} in {self.group}"


class Role(models.Model):
    """A named set of permissions that an organisation made for itself. It can be granted at `group` and below."""

    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="roles")
    group = models.ForeignKey(Group, on_delete=models.PROTECT, related_name="roles")
    name = models.CharField(max_length=60)
    description = models.CharField(max_length=200, blank=True)
    permissions = ArrayField(models.CharField(max_length=40), default=list)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [models.UniqueConstraint("organization", Lower("name"), name="role_name_unique_in_organization")]

    def __str__(self) -> str:
        return self.name

    @property
    def named(self) -> frozenset[Permission]:
        """A permission that no longer exists gives nothing."""
        return frozenset(permission for permission in Permission if permission.value in self.permissions)


class RoleGrant(models.Model):
    """A role at a node: a shipped one by name, or a custom one. Reaches that node's subtree, never above or beside it."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="grants")
    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="grants")
    group = models.ForeignKey(Group, on_delete=models.PROTECT, related_name="grants")
    role = models.CharField(max_length=20, choices=[(role.value, role.value.title()) for role in RoleName], blank=True)
    custom_role = models.ForeignKey(Role, on_delete=models.PROTECT, null=True, blank=True, related_name="grants")
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["user", "group", "role"], condition=Q(custom_role=None), name="one_grant_of_a_role_per_node"
            ),
            models.UniqueConstraint(fields=["user", "group", "custom_role"], name="one_grant_of_a_custom_role_per_node"),
            models.CheckConstraint(
                condition=Q(custom_role=None) & ~Q(role="") | Q(custom_role__isnull=False, role=""), name="grant_is_of_one_role"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.user}: {self.label} of {self.group}"

    @property
    def label(self) -> str:
        """The name people know the role by: an admin's depends on the level of its node."""
        if self.custom_role:
            return self.custom_role.name
        return role_label(self.role, level=self.group.level)

    def allows(self, *, distance: int) -> frozenset[Permission]:
        """What it allows so many levels below its node; 0 is the node itself."""
        return counted(self.named, granted_level=self.group.level, distance=distance)

    @property
    def named(self) -> frozenset[Permission]:
        return self.custom_role.named if self.custom_role else permissions_of(RoleName(self.role))


def role_label(role: str, *, level: int) -> str:
    """Of a shipped role granted at this level."""
    if role != RoleName.ADMIN:
        return RoleName(role).value.title()
    return {0: "Super Admin", 1: "L1 Admin"}.get(level, "Sub-admin")


class Application(models.Model):
    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="applications")
    group = models.ForeignKey(Group, on_delete=models.PROTECT, related_name="applications")
    name = models.CharField(max_length=120)
    slug = models.SlugField(max_length=60)
    features = ArrayField(models.SlugField(max_length=60), default=list, blank=True)
    environments = ArrayField(models.SlugField(max_length=30), default=list, blank=True)
    cost_center = models.CharField(max_length=60, blank=True, db_default="")
    owner = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, blank=True, related_name="+")
    archived_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["organization", "slug"], name="application_slug_unique_in_organization")]

    def __str__(self) -> str:
        return self.name


class ApiKey(models.Model):
    """`gh_sk_<public id>_<secret>`; only an HMAC digest of the whole text is kept.

    A rotated key has two texts until `old_until`: both are this one key, for limits and in the ledger.

    A member's key names its member; a service key names its application instead. `group` is its one
    home node: limits, attribution and the ledger follow that node's path.
    """

    STATUS_WORDS: ClassVar = {"active": "Active", "disabled": "Disabled", "expired": "Expired", "revoked": "Deleted"}

    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="api_keys")
    group = models.ForeignKey(Group, on_delete=models.PROTECT, related_name="api_keys")
    member = models.ForeignKey(User, on_delete=models.PROTECT, null=True, blank=True, related_name="api_keys")
    application = models.ForeignKey(Application, on_delete=models.PROTECT, null=True, blank=True, related_name="api_keys")
    environment = models.CharField(max_length=30, blank=True)
    features = ArrayField(models.SlugField(max_length=60), default=list, blank=True)
    name = models.CharField(max_length=120)
    public_id = models.CharField(max_length=16, unique=True)
    digest = models.BinaryField(max_length=32, unique=True)
    last_four = models.CharField(max_length=4)
    old_digest = models.BinaryField(max_length=32, unique=True, null=True, blank=True)
    old_last_four = models.CharField(max_length=4, blank=True)
    old_until = models.DateTimeField(null=True, blank=True, help_text="The first moment at which the old text no longer works.")
    disabled_at = models.DateTimeField(null=True, blank=True)
    disabled_by = models.ForeignKey(User, on_delete=models.PROTECT, null=True, blank=True, related_name="+")
    revoked_at = models.DateTimeField(null=True, blank=True)
    expires_at = models.DateTimeField(null=True, blank=True)
    created_by = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(member__isnull=False) | Q(application__isnull=False), name="key_belongs_to_a_member_or_an_application"
            )
        ]
        indexes = [models.Index(fields=["organization", "member"])]

    def __str__(self) -> str:
        return self.name

    @property
    def prefix(self) -> str:
        """What may be shown of the key for ever: `gh_sk_<public id>…<last four>`."""
        return f"gh_sk_{self.public_id}…{self.last_four}"

    @property
    def has_two_texts(self) -> bool:
        """Whether the text that was replaced still works."""
        return self.old_until is not None and self.old_until > timezone.now()

    @property
    def status(self) -> str:
        """One of revoked, disabled, expired, active."""
        if self.revoked_at:
            return "revoked"
        if self.disabled_at:
            return "disabled"
        return "expired" if self.expires_at and self.expires_at <= timezone.now() else "active"

    @property
    def status_words(self) -> str:
        return self.STATUS_WORDS[self.status]


class AccessToken(models.Model):
    """A personal access token for the API; only an HMAC digest of its text is kept. See orgs/tokens.py."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="access_tokens")
    name = models.CharField(max_length=120)
    scopes = ArrayField(models.CharField(max_length=40))
    public_id = models.CharField(max_length=16, unique=True)
    digest = models.BinaryField(max_length=32, unique=True)
    last_four = models.CharField(max_length=4)
    created_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField()
    last_used_at = models.DateTimeField(null=True)
    revoked_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return self.name

    @property
    def prefix(self) -> str:
        """What may be shown of it for ever."""
        return f"gh_pat_{self.public_id}…{self.last_four}"


class AuditEvent(models.Model):
    """One critical action. Append-only: database triggers refuse update, delete and truncate. Chained: see orgs/chain.py.

    `group` is the node it is about, whose admins may read it; None for what concerns the organisation as a whole.
    """

    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="audit_events", null=True)
    group = models.ForeignKey(Group, on_delete=models.PROTECT, related_name="+", null=True)
    actor = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+", null=True)
    action = models.CharField(max_length=60)
    object_type = models.CharField(max_length=40)
    object_id = models.CharField(max_length=40)
    object_label = models.CharField(max_length=200)
    before = models.JSONField(default=dict)
    after = models.JSONField(default=dict)
    ip = models.GenericIPAddressField(null=True)
    agent = models.CharField(max_length=200, blank=True)
    at = models.DateTimeField(default=timezone.now)
    # Its place in the chain of its organisation, from 1, and the hash of the chain up to it.
    sequence = models.BigIntegerField()
    hash = models.CharField(max_length=64)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["organization", "sequence"], name="audit_event_has_its_place"),
            models.UniqueConstraint(
                fields=["sequence"], condition=Q(organization=None), name="audit_event_of_no_organization_has_its_place"
            ),
        ]
        indexes = [models.Index(F("organization"), F("at").desc(), name="audit_by_organization")]

    def __str__(self) -> str:
        return f"{self.action} {self.object_type} {self.object_label}"

    def facts(self) -> dict[str, Any]:
        """What its hash is of, in the form of the export: ids, and the moment in UTC to the microsecond."""
        columns = ("sequence", "action", "object_type", "object_id", "object_label", "before", "after", "agent")
        return {column: getattr(self, column) for column in columns} | {
            "organization": self.organization_id,
            "group": self.group_id,
            "actor": self.actor_id,
            "ip": clean_ip(self.ip),
            "at": self.at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        }


class AuditHead(models.Model):
    """Place and hash of the last event of a chain: without it nobody could tell that the last event was taken away.

    A database trigger lets it go forward only, one event at a time.
    """

    OF_NO_ORGANIZATION: ClassVar[int] = 0

    # The organisation's id. Ids begin at 1: 0 is the chain of events of no organisation.
    chain = models.BigIntegerField(primary_key=True)
    sequence = models.BigIntegerField(default=0)
    hash = models.CharField(max_length=64, default=GENESIS)

    def __str__(self) -> str:
        return f"{self.sequence}:{self.hash}"

    @classmethod
    def chain_of(cls, organization_id: int | None) -> int:
        return organization_id or cls.OF_NO_ORGANIZATION


class AuditCheck(models.Model):
    """What the latest verification of a chain found."""

    chain = models.BigIntegerField(primary_key=True)
    checked_at = models.DateTimeField()
    event_count = models.BigIntegerField()
    fault_count = models.IntegerField()
    first_fault = models.CharField(max_length=200, blank=True)

    def __str__(self) -> str:
        return self.first_fault or f"{self.event_count} events verified"
