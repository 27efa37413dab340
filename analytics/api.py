"""Usage and the ledger, for the API. Amounts are nano-dollars (10⁻⁹ USD) as texts of digits, exact to the last one."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from analytics.filters import PERIODS, Filters, Scope, period_named
from analytics.selectors import access_call_by_id, calls_visible_to
from analytics.usage import Share, Sums, usage_of
from billing.models import UsageRecord
from guardrails.windows import Calendar
from orgs.api.base import OrgApiView, operation
from orgs.api.fields import BigNumberField

FILTERS = [
    OpenApiParameter("period", OpenApiTypes.STR, enum=list(PERIODS)),
    *(OpenApiParameter(name, OpenApiTypes.INT) for name in ("group", "member", "key", "application")),
    *(OpenApiParameter(name, OpenApiTypes.STR) for name in ("model", "status", "preset")),
]


class SumsOut(serializers.Serializer[Sums]):
    charged_nano_usd = BigNumberField(source="charged")
    calls = serializers.IntegerField()
    tokens = serializers.IntegerField()
    cached_tokens = serializers.IntegerField(source="cached")
    failed = serializers.IntegerField(source="errors")
    refused = serializers.IntegerField()


class ShareOut(serializers.Serializer[Share]):
    id = serializers.CharField(allow_null=True, help_text="Of the person, group or application, or the name of the model.")
    name = serializers.CharField()
    sums = SumsOut()


class SlotOut(serializers.Serializer[Any]):
    starts_at = serializers.DateTimeField()
    sums = SumsOut()


class UsageOut(serializers.Serializer[Any]):
    starts_at = serializers.DateTimeField()
    ends_at = serializers.DateTimeField()
    step = serializers.ChoiceField(choices=["hour", "day"])
    total = SumsOut()
    before = SumsOut(help_text="The period before, as long as this one up to now.")
    slots = SlotOut(many=True)
    models = ShareOut(many=True)
    members = ShareOut(many=True)
    groups = ShareOut(many=True)
    applications = ShareOut(many=True)


class CallOut(serializers.ModelSerializer[UsageRecord]):
    """One call, as it stands in the ledger. `group_ids`: the path at the time of the call, from the root."""

    organization_id = serializers.IntegerField()
    member_id = serializers.IntegerField(allow_null=True)
    api_key_id = serializers.IntegerField()
    application_id = serializers.IntegerField(allow_null=True)
    group_ids = serializers.SerializerMethodField()
    charged_nano_usd = BigNumberField()
    list_nano_usd = BigNumberField()
    absorbed_nano_usd = BigNumberField()
    reserved_nano_usd = BigNumberField()
    cache_saving_nano_usd = BigNumberField()

    class Meta:
        model = UsageRecord
        fields = (
            *("call_id", "admitted_at", "recorded_at", "organization_id", "group_ids", "member_id", "api_key_id"),
            *("application_id", "feature", "environment", "protocol", "streamed", "requested_model", "served_model"),
            *("provider", "preset", "input_tokens", "cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens"),
            *("output_tokens", "reasoning_tokens", "usage_estimated", "charged_nano_usd", "list_nano_usd", "byok"),
            *("absorbed_nano_usd", "reserved_nano_usd", "cache_saving_nano_usd", "latency_ms", "first_token_ms", "status"),
            *("http_status", "error_code", "finish_reason", "attempt_count", "call_count"),
        )

    def get_group_ids(self, call: UsageRecord) -> list[int]:
        path = (call.group0_id, call.group1_id, call.group2_id, call.group3_id, call.group4_id)
        return [group for group in path if group is not None]


class Usage(OrgApiView):
    resource = "usage"

    @operation("Sums of a period, of what you may see", gives=UsageOut, query=FILTERS)
    def get(self, request: Request, org: str) -> Response:
        calendar = Calendar.of(self.actor.organization)
        period = period_named(request.GET.get("period"), now=timezone.now(), calendar=calendar)
        found = usage_of(Scope.of(self.actor), period=period, filters=Filters.of(request.GET), level=1)
        slots = [{"starts_at": at, "sums": sums} for at, sums in zip(period.slots, found.by_slot, strict=True)]
        facts = {"starts_at": period.starts_at, "ends_at": period.ends_at, "step": period.step, "slots": slots}
        return Response(UsageOut({**found._asdict(), **facts}).data)


class Ledger(OrgApiView):
    resource = "ledger"

    @operation("Calls as the ledger has them, of those you may see", gives=CallOut, many=True)
    def get(self, request: Request, org: str) -> Response:
        return self.page(calls_visible_to(self.actor), CallOut, parse=UUID)


class OneCall(OrgApiView):
    resource = "ledger"

    @operation("One call", gives=CallOut)
    def get(self, request: Request, org: str, call_id: UUID) -> Response:
        return Response(CallOut(access_call_by_id(self.actor, call_id)).data)
