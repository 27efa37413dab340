"""The catalogue: providers, the models callers ask for, and the deployments that serve them."""

from __future__ import annotations

from django.db import models
from django.db.models.functions import Lower
from django.utils import timezone


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


class Model(models.Model):
    """What callers ask for by name."""

    class Kind(models.TextChoices):
        CHAT = "chat", "Chat"
        EMBEDDING = "embedding", "Embedding"
        IMAGE = "image", "Image"
        SPEECH = "speech", "Speech"
        TRANSCRIPTION = "transcription", "Transcription"
        VIDEO = "video", "Video"

    name = models.CharField(max_length=200, unique=True)
    kind = models.CharField(max_length=20, choices=Kind, default=Kind.CHAT)
    context_window = models.IntegerField(null=True)
    max_output_tokens = models.IntegerField(null=True)
    # Seconds: connect, first_byte, idle, total. Missing members take the defaults of proxy.providers.base.Timeouts.
    timeout = models.JSONField(default=dict, blank=True)
    circuit_breaker = models.BooleanField(default=True)
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

    class Meta:
        constraints = [models.UniqueConstraint(fields=["model", "provider", "upstream_model"], name="deployment_declared_once")]
        ordering = ["order", "id"]

    def __str__(self) -> str:
        return f"{self.model} by {self.provider}"
