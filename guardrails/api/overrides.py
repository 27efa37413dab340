"""Exceptions to one limit for one subject, for the API: so much more until a date, or what was spent forgiven."""

from __future__ import annotations

from typing import Any

from django.utils import timezone
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from guardrails.api.subjects import SubjectIn, SubjectOut, described, subject_in
from guardrails.models import Limit, Override
from guardrails.policy_selectors import overrides_visible_to, policies_visible_to
from guardrails.services.overrides import REASON_LENGTH, add_override, end_override, reset_usage, resume_override, running
from guardrails.subjects import Subject
from orgs.api.base import OrgApiView, one_of, operation
from orgs.api.fields import BigNumberField, Body, IdField, MomentField
from orgs.api.paging import Paging
from orgs.permissions import Permission


class WhichLimit(Body):
    """A policy has one limit of a kind and window."""

    kind = serializers.ChoiceField(choices=Limit.Kind.choices)
    window = serializers.ChoiceField(choices=Limit.Window.choices)


class OverrideOut(serializers.Serializer[Override]):
    id = serializers.IntegerField()
    policy_id = serializers.IntegerField(source="limit.policy_id")
    limit = WhichLimit()
    subject = serializers.SerializerMethodField()
    kind = serializers.ChoiceField(choices=Override.Kind.choices)
    amount = BigNumberField(help_text="Nano-dollars of a budget, else a count.")
    starts_at = serializers.DateTimeField()
    until = serializers.DateTimeField(allow_null=True, help_text="The first moment without it; null: it has no end.")
    revoked_at = serializers.DateTimeField(allow_null=True, help_text="When it was ended before its time.")
    reason = serializers.CharField()
    created_by_id = serializers.IntegerField()

    @extend_schema_field(SubjectOut)
    def get_subject(self, override: Override) -> dict[str, Any]:
        return described(override)


class OverridesQuery(Paging):
    policy = IdField(required=False)
    running = serializers.BooleanField(required=False, help_text="Whether they count or are still to begin.")


class LimitOf(Body):
    """One limit of a policy, for one of those whom it governs."""

    policy_id = IdField()
    limit = WhichLimit()
    subject = SubjectIn()
    reason = serializers.CharField(max_length=REASON_LENGTH, allow_blank=True, required=False)


class NewOverride(LimitOf):
    amount = BigNumberField(help_text="So much more: nano-dollars of a budget, else a count.")
    until = MomentField(help_text="The first moment without it.")
    starts_at = MomentField(required=False, help_text="Left out: now.")


class OverrideView(OrgApiView):
    resource = "policies"
    writes = (Permission.MANAGE_GUARDRAILS,)

    def found(self, override_id: int) -> Override:
        return one_of(overrides_visible_to(self.actor), override_id)

    def limit_in(self, given: dict[str, Any]) -> tuple[Limit, Subject]:
        """Taken out of what a LimitOf took. Raises Http404, ValidationError."""
        policy, wanted = one_of(policies_visible_to(self.actor), given.pop("policy_id")), given.pop("limit")
        limit = policy.limits.filter(**wanted).first()
        subject = subject_in(given.pop("subject"), actor=self.actor)
        if limit is None:
            raise serializers.ValidationError({"limit": f"{policy} has no such limit."})
        return limit, subject

    def shown(self, override: Override, *, status: int = 200) -> Response:
        return Response(OverrideOut(override).data, status=status)


class Overrides(OverrideView):
    @operation("Exceptions you see", gives=OverrideOut, many=True, query=OverridesQuery)
    def get(self, request: Request, org: str) -> Response:
        found = self.narrowed(overrides_visible_to(self.actor), policy="limit__policy")
        if "running" in self.asked:
            now = running(timezone.now())
            found = found.filter(now if self.asked["running"] else ~now)
        return self.page(found, OverrideOut)

    @operation("Allow so much more of a limit, until a moment", takes=NewOverride, gives=OverrideOut, status=201)
    def post(self, request: Request, org: str) -> Response:
        given = self.body(NewOverride)
        limit, subject = self.limit_in(given)
        return self.shown(add_override(limit, subject=subject, by=self.actor, **given), status=201)


class Resets(OverrideView):
    @operation("Let a budget count anew to the end of its window", takes=LimitOf, gives=OverrideOut, status=201)
    def post(self, request: Request, org: str) -> Response:
        given = self.body(LimitOf)
        limit, subject = self.limit_in(given)
        return self.shown(reset_usage(limit, subject=subject, by=self.actor, **given), status=201)


class OneOverride(OverrideView):
    @operation("One exception", gives=OverrideOut)
    def get(self, request: Request, org: str, override_id: int) -> Response:
        return self.shown(self.found(override_id))


class EndedOverride(OverrideView):
    @operation("End an exception before its time", gives=OverrideOut)
    def post(self, request: Request, org: str, override_id: int) -> Response:
        return self.shown(end_override(self.found(override_id), by=self.actor))


class ResumedOverride(OverrideView):
    @operation("Let an exception count again that was ended before its time", gives=OverrideOut)
    def post(self, request: Request, org: str, override_id: int) -> Response:
        return self.shown(resume_override(self.found(override_id), by=self.actor))
