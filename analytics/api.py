"""Usage and the ledger, for the API. Amounts are nano-dollars (10⁻⁹ USD) as texts of digits, exact to the last one."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

from django.utils import timezone
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from analytics.call_changes import Clamp, Deciding, Degrade, clamp_of, degrade_of
from analytics.filters import DEFAULT_PERIOD, LENGTHS, PERIODS, Filters, Period, Scope, period_named, period_of_days
from analytics.reasons import REASONS
from analytics.selectors import access_call_by_id, calls_visible_to, filtered
from analytics.usage import Share, Sums, usage_of
from billing.models import UsageRecord
from gateway_project.lib.ids import first_id_at
from guardrails.windows import Calendar, day_of
from orgs.api.base import OrgApiView, operation
from orgs.api.fields import FIRST_YEAR, LAST_YEAR, BigNumberField, IdField, MomentField, Query
from orgs.api.paging import Paging
from orgs.models import MAX_LEVEL

MOST_DAYS = 366


class CallsFilter(Query):
    """As the console narrows its overview."""

    group = IdField(required=False, help_text="Calls of this group and below, by the path at the time of each call.")
    member = IdField(required=False, help_text="The id of a person.")
    key = IdField(required=False)
    application = IdField(required=False)
    model = serializers.CharField(required=False, max_length=LENGTHS["model"])
    status = serializers.ChoiceField(choices=UsageRecord.Status.choices, required=False)
    preset = serializers.CharField(required=False, max_length=LENGTHS["preset"])


class UsageQuery(CallsFilter):
    level = serializers.IntegerField(
        min_value=1, max_value=MAX_LEVEL, default=1, help_text="Of the tree: which groups the sums are by."
    )
    period = serializers.ChoiceField(choices=list(PERIODS), default=DEFAULT_PERIOD, help_text="Up to now.")
    first_day = serializers.DateField(required=False, help_text="In place of `period`: a day of the organisation's calendar.")
    last_day = serializers.DateField(required=False, help_text=f"Included; at most {MOST_DAYS} days. Left out: today.")

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        first, last = attrs.get("first_day"), attrs.get("last_day")
        if first is None and last is not None:
            raise serializers.ValidationError({"first_day": "Give the first day, too."})
        for name in ("first_day", "last_day"):
            if name in attrs and not FIRST_YEAR <= attrs[name].year < LAST_YEAR:
                raise serializers.ValidationError({name: f"Give a day from {FIRST_YEAR} on and before {LAST_YEAR}."})
        if first and last and not first <= last < first + timedelta(days=MOST_DAYS):
            raise serializers.ValidationError({"last_day": f"At most {MOST_DAYS} days, the first one first."})
        return attrs


class LedgerQuery(CallsFilter, Paging):
    """As the console narrows its call log; sums know no reasons."""

    reason = serializers.ChoiceField(choices=list(REASONS), required=False, help_text="The code of the error, as `error_code`.")
    since = MomentField(required=False, help_text="Calls admitted from then on.")
    until = MomentField(required=False, help_text="Calls admitted before then.")


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
    before = SumsOut(help_text="The period before, as long as this one up to now, to the nearest hour.")
    slots = SlotOut(many=True)
    models = ShareOut(many=True)
    members = ShareOut(many=True)
    groups = ShareOut(many=True)
    applications = ShareOut(many=True)


class AlternativeOut(serializers.Serializer[Any]):
    model = serializers.CharField()
    reason = serializers.CharField(help_text="Why it was not chosen.")


class AutoOut(serializers.Serializer[Any]):
    asked = serializers.CharField(help_text="`auto`, `auto:cheap` or `auto:best`.")
    need = serializers.FloatField(help_text="How much the request needs a strong model, from 0 to 1.")
    model = serializers.CharField(help_text="The one chosen.")
    alternatives = AlternativeOut(many=True)


class PlaceOut(serializers.Serializer[Any]):
    provider = serializers.CharField()
    model = serializers.CharField(help_text="Its name there.")
    reason = serializers.CharField(help_text="Why it stands there in the order.")


class RouteOut(serializers.Serializer[Any]):
    """`auto`: what it decided, where it was asked. `order`: where the call could go, first to last, where there was a choice."""

    reason = serializers.CharField(help_text="Why it went to its provider.")
    auto = AutoOut(allow_null=True)
    order = PlaceOut(many=True)


class DecidingOut(serializers.Serializer[Deciding]):
    """The budget that decided, as it stood then; the level `credit pool` is the prepaid credit."""

    level = serializers.CharField()
    node = serializers.CharField()
    policy = serializers.CharField()
    window = serializers.CharField()
    limit_nano_usd = BigNumberField(source="limit")


class ClampOut(serializers.Serializer[Clamp]):
    wanted = serializers.IntegerField(allow_null=True, help_text="Output tokens that the answer could have had otherwise.")
    allowed = serializers.IntegerField(help_text="Output tokens.")
    by = DecidingOut(allow_null=True)


class DegradeOut(serializers.Serializer[Degrade]):
    asked = serializers.CharField(help_text="The model that was asked for.")
    sent_to = serializers.CharField(help_text="The cheaper one that the budget's policy names.")
    by = DecidingOut(allow_null=True)


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
    baseline_nano_usd = BigNumberField(allow_null=True, help_text="At the baseline model; null where nothing was compared.")
    cache_saving_nano_usd = BigNumberField(help_text="Against fresh input, by the prices of the call; writes are taken off.")
    cache_hit_rate = serializers.SerializerMethodField()
    route = serializers.SerializerMethodField()
    clamp = serializers.SerializerMethodField()
    degrade = serializers.SerializerMethodField()

    class Meta:
        model = UsageRecord
        fields = (
            "call_id", "admitted_at", "recorded_at", "organization_id", "group_ids", "member_id", "api_key_id",
            "application_id", "feature", "environment", "protocol", "streamed", "requested_model", "served_model",
            "provider", "preset", "input_tokens", "cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens",
            "output_tokens", "reasoning_tokens", "usage_estimated", "charged_nano_usd", "list_nano_usd", "byok",
            "absorbed_nano_usd", "reserved_nano_usd", "baseline_nano_usd", "cache_saving_nano_usd", "cache_hit_rate",
            "route", "latency_ms", "first_token_ms", "status",
            "http_status", "error_code", "finish_reason", "attempt_count", "call_count", "clamp", "degrade",
        )  # fmt: skip

    @extend_schema_field(ClampOut(allow_null=True, help_text="How a budget shortened the answer; null where none did."))
    def get_clamp(self, call: UsageRecord) -> Any:
        clamp = clamp_of(call.decision)
        return None if clamp is None else ClampOut(clamp).data

    @extend_schema_field(DegradeOut(allow_null=True, help_text="Where a budget near its cap sent the call; null where none did."))
    def get_degrade(self, call: UsageRecord) -> Any:
        degrade = degrade_of(call.decision)
        return None if degrade is None else DegradeOut(degrade).data

    def get_group_ids(self, call: UsageRecord) -> list[int]:
        path = (call.group0_id, call.group1_id, call.group2_id, call.group3_id, call.group4_id)
        return [group for group in path if group is not None]

    def get_cache_hit_rate(self, call: UsageRecord) -> float | None:
        """Of all input tokens the share that was read from the provider's prompt cache, from 0 to 1."""
        return round(call.cache_read_tokens / call.input_total, 4) if call.input_total else None

    @extend_schema_field(RouteOut)
    def get_route(self, call: UsageRecord) -> Any:
        auto, order = call.decision.get("auto"), call.decision.get("order") or []
        if auto is not None:
            others = [{"model": model, "reason": reason} for model, reason in auto["others"]]
            auto = {"asked": auto["asked"], "need": auto["need"], "model": auto["model"], "alternatives": others}
        places = [{"provider": provider, "model": model, "reason": reason} for provider, model, reason in order]
        return {"reason": call.route_reason, "auto": auto, "order": places}


class Usage(OrgApiView):
    resource = "usage"

    @operation("Sums of a period, of what you may see", gives=UsageOut, query=UsageQuery)
    def get(self, request: Request, org: str) -> Response:
        period = self._period()
        found = usage_of(Scope.of(self.actor), period=period, filters=_filters(self.asked), level=self.asked["level"])
        slots = [{"starts_at": at, "sums": sums} for at, sums in zip(period.slots, found.by_slot, strict=True)]
        facts = {"starts_at": period.starts_at, "ends_at": period.ends_at, "step": period.step, "slots": slots}
        return Response(UsageOut({**found._asdict(), **facts}).data)

    def _period(self) -> Period:
        calendar, now, first = Calendar.of(self.actor.organization), timezone.now(), self.asked.get("first_day")
        if first is None:
            return period_named(self.asked["period"], now=now, calendar=calendar)
        last = self.asked.get("last_day") or day_of(now, calendar)
        if not first <= last < first + timedelta(days=MOST_DAYS):
            raise serializers.ValidationError({"first_day": f"At most {MOST_DAYS} days, none of them to come."})
        return period_of_days(first, last, now=now, calendar=calendar)


class Ledger(OrgApiView):
    resource = "ledger"

    @operation("Calls as the ledger has them, of those you may see", gives=CallOut, many=True, query=LedgerQuery)
    def get(self, request: Request, org: str) -> Response:
        calls = filtered(calls_visible_to(self.actor), _filters(self.asked))
        if "reason" in self.asked:
            calls = calls.filter(error_code=self.asked["reason"])
        # Ids hold the time of admission, and stand in the index.
        if "since" in self.asked:
            calls = calls.filter(pk__gte=first_id_at(self.asked["since"]))
        if "until" in self.asked:
            calls = calls.filter(pk__lt=first_id_at(self.asked["until"]))
        return self.page(calls, CallOut, parse=UUID)


class OneCall(OrgApiView):
    resource = "ledger"

    @operation("One call", gives=CallOut)
    def get(self, request: Request, org: str, call_id: UUID) -> Response:
        return Response(CallOut(access_call_by_id(self.actor, call_id)).data)


def _filters(asked: dict[str, Any]) -> Filters:
    return Filters(**{name: asked[name] for name in Filters._fields if name in asked})
