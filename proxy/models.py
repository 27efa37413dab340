"""The catalogue: providers, the models callers ask for, and the deployments that serve them. And simulations of policies,
idempotency keys in use, contents that are kept, and videos that are made."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F
from django.db.models.functions import Lower, Now
from django.utils import timezone

from guardrails.models import Policy
from orgs.models import ApiKey, Group, Organization, User


class Provider(models.Model):
    """An account at someone who runs models: kind, address and credential.

    The credential is either the name of an environment variable (`api_key_env`) or a value encrypted
    with the installation's key ring, bound to this row (`api_key_encrypted`).
    """

    name = models.SlugField(max_length=80, unique=True)
    kind = models.CharField(max_length=40)
    base_url = models.CharField(max_length=500, blank=True)
    api_key_env = models.CharField(max_length=120, blank=True)
    api_key_encrypted = models.TextField(blank=True)
    options = models.JSONField(default=dict, blank=True)
    enabled = models.BooleanField(default=True)
    created_at = models.DateTimeField(default=timezone.now)

    def __str__(self) -> str:
        return self.name


class ProviderKey(models.Model):
    """An organisation's own key at a provider: calls of the node's subtree are made with it, and charged to no pool.

    Written once and never shown: only its last four characters are. It is for every provider of its kind, or for one
    that is declared here.
    """

    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="provider_keys")
    group = models.ForeignKey(Group, on_delete=models.CASCADE, related_name="provider_keys")
    name = models.CharField(max_length=120)
    kind = models.CharField(max_length=40)
    provider = models.ForeignKey(Provider, on_delete=models.CASCADE, null=True, related_name="own_keys")
    key_encrypted = models.TextField()
    last_four = models.CharField(max_length=4, blank=True)
    base_url = models.CharField(max_length=500, blank=True)
    # Where calls with it fail, the operator's key follows, charged to the pool.
    falls_back = models.BooleanField(default=False)
    enabled = models.BooleanField(default=True)
    created_by = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField(default=timezone.now)
    tested_at = models.DateTimeField(null=True)
    # Of the latest test: whether it passed, and what came of it in words.
    test_passed = models.BooleanField(null=True)
    test_result = models.CharField(max_length=300, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["group", "kind"], condition=models.Q(provider=None), name="one_provider_key_per_kind_and_node"
            ),
            models.UniqueConstraint(fields=["group", "provider"], name="one_provider_key_per_provider_and_node"),
        ]

    def __str__(self) -> str:
        return self.name


class Model(models.Model):
    """What callers ask for by name."""

    class Kind(models.TextChoices):
        CHAT = "chat", "Chat"
        EMBEDDING = "embedding", "Embedding"
        IMAGE = "image", "Image"
        SPEECH = "speech", "Speech"
        TRANSCRIPTION = "transcription", "Transcription"
        VIDEO = "video", "Video"

    class Strategy(models.TextChoices):
        """Which of the deployments of equal order is tried first."""

        ORDER = "order", "By weight, a session staying where it is"
        PRICE = "price", "The cheapest"
        LATENCY = "latency", "The fastest"

    name = models.CharField(max_length=200, unique=True)
    kind = models.CharField(max_length=20, choices=Kind, default=Kind.CHAT)
    context_window = models.IntegerField(null=True)
    max_output_tokens = models.IntegerField(null=True)
    # Words of proxy.capabilities; none where nothing is known.
    capabilities = ArrayField(models.CharField(max_length=40), default=list, blank=True)
    # When its maker advised against it, when it is gone, and what its maker names in its place (a model here, or a name there).
    deprecated_on = models.DateField(null=True)
    retires_on = models.DateField(null=True)
    replaced_by = models.CharField(max_length=200, blank=True)
    # Seconds: connect, first_byte, idle, total. Missing members take the defaults of proxy.providers.base.Timeouts.
    timeout = models.JSONField(default=dict, blank=True)
    circuit_breaker = models.BooleanField(default=True)
    strategy = models.CharField(max_length=20, choices=Strategy, default=Strategy.ORDER)
    # Names of models that are tried, in this order, where none of its own deployments can serve a call.
    fallbacks = ArrayField(models.CharField(max_length=200), default=list, blank=True)
    enabled = models.BooleanField(default=True)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [models.UniqueConstraint(Lower("name"), name="model_name_case_insensitive")]

    def __str__(self) -> str:
        return self.name


class Deployment(models.Model):
    """One way to serve a model: a provider's own name for it. Lower `order` first; `weight` among equals."""

    model = models.ForeignKey(Model, on_delete=models.CASCADE, related_name="deployments")
    provider = models.ForeignKey(Provider, on_delete=models.PROTECT, related_name="deployments")
    upstream_model = models.CharField(max_length=200)
    order = models.SmallIntegerField(default=1)
    weight = models.SmallIntegerField(default=1)
    # Requests and tokens a minute that the provider grants; None: not declared.
    rpm = models.IntegerField(null=True)
    tpm = models.IntegerField(null=True)
    # The provider promises to retain nothing of what is sent there.
    zdr = models.BooleanField(default=False)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["model", "provider", "upstream_model"], name="deployment_declared_once")]
        ordering = ["order", "id"]

    def __str__(self) -> str:
        return f"{self.model} by {self.provider}"


class Alias(models.Model):
    """Another name of a model, for keys at or below a group."""

    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="model_aliases")
    group = models.ForeignKey(Group, on_delete=models.CASCADE, related_name="+")
    name = models.CharField(max_length=80)
    # A model's name as callers ask for it, or `auto`.
    model = models.CharField(max_length=200)
    created_by = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [models.UniqueConstraint("group", Lower("name"), name="one_alias_per_group_and_name")]

    def __str__(self) -> str:
        return self.name


class Preset(models.Model):
    """A model with parameters and a system prompt under one name, shared with keys at or below a group."""

    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="presets")
    group = models.ForeignKey(Group, on_delete=models.CASCADE, related_name="presets")
    name = models.SlugField(max_length=60)
    description = models.CharField(max_length=200, blank=True)
    # A model's name, an alias, or `auto`.
    model = models.CharField(max_length=200)
    system_prompt = models.TextField(blank=True, max_length=20_000)
    # proxy.canonical.preset.Parameters.
    parameters = models.JSONField(default=dict, blank=True)
    created_by = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField(default=timezone.now)
    archived_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                "group", Lower("name"), condition=models.Q(archived_at=None), name="one_preset_per_group_and_name"
            )
        ]

    def __str__(self) -> str:
        return self.name


class RoutingChoice(models.Model):
    """What `auto` chooses from in an organisation, and the model that savings are told against."""

    organization = models.OneToOneField(Organization, on_delete=models.CASCADE, related_name="routing_choice")
    # Names of models, weakest first; empty: the cheapest, the dearest and one between of all that a key may call.
    auto_candidates = models.JSONField(default=list, blank=True)
    baseline_model = models.CharField(max_length=200, blank=True)

    def __str__(self) -> str:
        return f"routing of {self.organization}"


class Simulation(models.Model):
    """A period of the ledger replayed against a policy that may not be in force: what was asked, how far it is, what came out."""

    class Status(models.TextChoices):
        QUEUED = "queued", "Waiting"
        RUNNING = "running", "Running"
        DONE = "done", "Done"
        FAILED = "failed", "Failed"
        CANCELLED = "cancelled", "Cancelled"

    class Span(models.TextChoices):
        LAST_MONTH = "last_month", "Last month"
        THIS_MONTH = "this_month", "This month so far"
        CUSTOM = "custom", "From … to …"

    UNFINISHED = (Status.QUEUED, Status.RUNNING)

    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="simulations")
    name = models.CharField(max_length=120)
    # Where limits and rules were taken from; None: typed for this simulation.
    policy = models.ForeignKey(Policy, on_delete=models.SET_NULL, null=True, related_name="+")
    # proxy.simulating.proposal.Proposal, as it was when the run was asked for.
    proposal = models.JSONField()
    # The groups at which whoever sees it must be allowed to set limits.
    group_ids = ArrayField(models.BigIntegerField())
    span = models.CharField(max_length=12, choices=Span)
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField()
    status = models.CharField(max_length=10, choices=Status, default=Status.QUEUED)
    # Counts the runs: what an earlier one still writes is not heard.
    run = models.IntegerField(default=1)
    progress = models.SmallIntegerField(default=0)
    calls = models.BigIntegerField(default=0)
    # proxy.simulating.result.Result once it is done.
    result = models.JSONField(default=dict)
    error = models.CharField(max_length=300, blank=True)
    created_by = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField(default=timezone.now)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [models.CheckConstraint(condition=models.Q(starts_at__lt=F("ends_at")), name="simulation_of_some_time")]
        indexes = [models.Index(F("organization"), F("created_at").desc(), name="simulations_by_organization")]

    def __str__(self) -> str:
        return self.name

    @property
    def is_unfinished(self) -> bool:
        return self.status in self.UNFINISHED


class IdempotencyClaim(models.Model):
    """Which call an API key's idempotency key stands for (proxy/idempotency.py). What became of it the ledger knows."""

    api_key = models.ForeignKey(ApiKey, on_delete=models.CASCADE, related_name="+", db_constraint=False, db_index=False)
    key_digest = models.BinaryField()
    # Of route and body: a repeated key must come with the same ones.
    body_digest = models.BinaryField()
    call_id = models.UUIDField()
    # The worker that runs the call, by its name among the ledger's writers.
    writer_id = models.CharField(max_length=40)
    claimed_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = [models.UniqueConstraint(fields=["api_key", "key_digest"], name="one_call_per_idempotency_key")]
        indexes = [models.Index(fields=["claimed_at"], name="idempotency_by_age")]

    def __str__(self) -> str:
        return str(self.call_id)


class KeptAnswer(models.Model):
    """An answer kept because its organisation allows it, sealed and bound to this row (proxy/kept.py)."""

    call_id = models.UUIDField(primary_key=True)
    organization = models.ForeignKey(
        Organization, on_delete=models.CASCADE, related_name="+", db_constraint=False, db_index=False
    )
    sealed = models.BinaryField()
    kept_at = models.DateTimeField(db_default=Now())
    expires_at = models.DateTimeField()

    class Meta:
        indexes = [
            models.Index(fields=["expires_at"], name="kept_answers_by_end"),
            models.Index(fields=["organization", "kept_at"], name="kept_answers_by_organization"),
        ]

    def __str__(self) -> str:
        return str(self.call_id)


class KeptResponse(models.Model):
    """A turn that calls may go on from by the response's id, sealed and bound to this row (proxy/histories.py)."""

    call_id = models.UUIDField(primary_key=True)
    organization = models.ForeignKey(
        Organization, on_delete=models.CASCADE, related_name="+", db_constraint=False, db_index=False
    )
    # Whose keys may go on from it: `m` a member's, `a` an application's, `k` one key, with its id.
    owner = models.CharField(max_length=24)
    response_id = models.CharField(max_length=200)
    # The call of the turn before this one.
    previous_id = models.UUIDField(null=True)
    sealed = models.BinaryField()
    kept_at = models.DateTimeField(db_default=Now())
    expires_at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["organization", "owner", "response_id"], name="one_kept_response_per_id")]
        indexes = [
            models.Index(fields=["expires_at"], name="kept_responses_by_end"),
            models.Index(fields=["organization", "kept_at"], name="kept_responses_by_org"),
        ]

    def __str__(self) -> str:
        return self.response_id


class VideoJob(models.Model):
    """A video that a provider makes (proxy/video_jobs.py). Who asked for it, and what it costs, is in the ledger's row.

    Nothing of its content is kept. `finished_at`: nobody need ask any more, and what was to be given back has been.
    """

    class Status(models.TextChoices):
        QUEUED = "queued", "Queued"
        IN_PROGRESS = "in_progress", "In progress"
        COMPLETED = "completed", "Completed"
        FAILED = "failed", "Failed"
        EXPIRED = "expired", "Not finished in time"

    call_id = models.UUIDField(primary_key=True)
    organization = models.ForeignKey(
        Organization, on_delete=models.CASCADE, related_name="+", db_constraint=False, db_index=False
    )
    # Where it is made: the model's name in the catalogue, the deployment, and the own provider key it is made with.
    model = models.CharField(max_length=200)
    deployment_id = models.BigIntegerField()
    provider_key_id = models.BigIntegerField(null=True)
    upstream_id = models.CharField(max_length=300)
    size = models.CharField(max_length=40, blank=True)
    status = models.CharField(max_length=12, choices=Status, default=Status.QUEUED, db_default=Status.QUEUED)
    tries = models.IntegerField(db_default=0)
    created_at = models.DateTimeField(db_default=Now())
    next_poll_at = models.DateTimeField(db_default=Now())
    finished_at = models.DateTimeField(null=True)
    deleted_at = models.DateTimeField(null=True)

    class Meta:
        indexes = [
            models.Index(fields=["organization", "-call_id"], name="videos_by_organization"),
            models.Index(fields=["next_poll_at"], condition=models.Q(finished_at=None), name="videos_to_ask_about"),
        ]

    def __str__(self) -> str:
        return str(self.call_id)
