"""API keys with their own limits, for the API."""

from __future__ import annotations

from typing import Any

from django.core.validators import MinValueValidator
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from guardrails.api.oddities import Warned
from guardrails.policy_selectors import warnings_about_key
from guardrails.selectors import (
    MINE,
    SERVICE,
    STATUSES,
    WATCHES,
    KeyLimits,
    Narrowed,
    load_own_limits,
    narrowed_keys,
    own_limits,
    own_of,
    own_rules,
    with_own_limits,
)
from guardrails.services.key_limits import create_limited_key, set_key_limits
from guardrails.services.policies import MAX_COUNT, MAX_RPM
from guardrails.services.several import CHANGES, MOST_KEYS, change_keys
from orgs.api.base import OrgApiView, one_of, operation
from orgs.api.fields import BigNumberField, Body, IdField, MomentField
from orgs.api.paging import Paging
from orgs.api.people import person_in
from orgs.lookups import access_key_by_id
from orgs.models import ApiKey
from orgs.permissions import Permission
from orgs.selectors import applications_visible_to, groups_visible_to, keys_visible_to
from orgs.services.changes import changing
from orgs.services.keys import disable_key, edit_key, enable_key, end_old_text, revoke_key, rotate_key

P = Permission
NO_KEY = "There is no such key, or none that you may see."
ATTRIBUTES = ("name", "application", "environment", "features", "expires_at")


def _budget() -> BigNumberField:
    return BigNumberField(required=False, allow_null=True, validators=[MinValueValidator(1)])


def _count(most: int = MAX_COUNT) -> serializers.IntegerField:
    return serializers.IntegerField(required=False, allow_null=True, min_value=1, max_value=most)


class OwnLimits(Body):
    """Set on this very key; null: none. What stands above it counts, too."""

    daily_nano_usd = _budget()
    weekly_nano_usd = _budget()
    monthly_nano_usd = _budget()
    total_nano_usd = _budget()
    rpm = _count(MAX_RPM)
    tpm = _count()
    rpd = _count()
    parallel = _count()
    max_tokens = _count()


def _list() -> serializers.ListField:
    return serializers.ListField(child=serializers.CharField(max_length=200), max_length=1000, required=False)


class OwnRules(Body):
    """Lists of this very key; an empty one restricts nothing."""

    models = _list()
    blocked_models = _list()
    addresses = _list()


class KeyOut(serializers.Serializer[ApiKey]):
    id = serializers.IntegerField()
    public_id = serializers.CharField()
    prefix = serializers.CharField(help_text="What may be shown of it.")
    name = serializers.CharField()
    status = serializers.ChoiceField(choices=STATUSES)
    group_id = serializers.IntegerField()
    member_id = serializers.IntegerField(allow_null=True, help_text="The id of a person; null: a service key.")
    application_id = serializers.IntegerField(allow_null=True)
    environment = serializers.CharField()
    features = serializers.ListField(child=serializers.CharField())
    limits = serializers.SerializerMethodField()
    rules = serializers.SerializerMethodField()
    expires_at = serializers.DateTimeField(allow_null=True, help_text="The first moment at which it no longer works.")
    old_until = serializers.DateTimeField(allow_null=True, help_text="Until when the text before the last one works.")
    created_at = serializers.DateTimeField()

    @extend_schema_field(OwnLimits)
    def get_limits(self, key: ApiKey) -> dict[str, Any]:
        return dict(OwnLimits(own_of(key)[0]._asdict()).data)

    @extend_schema_field(OwnRules)
    def get_rules(self, key: ApiKey) -> dict[str, Any]:
        return dict(OwnRules(own_of(key)[1]._asdict()).data)


class KeyWithWarnings(KeyOut, Warned):
    """Its own limits judged by themselves, and against what applies above it as far as you see it."""


class KeyWithText(serializers.Serializer[Any]):
    """The only answer that ever holds the text of the key."""

    key = KeyWithWarnings()
    text = serializers.CharField(allow_null=True, help_text="null: this repeats an answer that held it. Rotate for another.")


class KeyFields(Body):
    name = serializers.CharField(max_length=120)
    application_id = IdField(allow_null=True, required=False)
    environment = serializers.CharField(max_length=30, allow_blank=True, required=False)
    features = serializers.ListField(child=serializers.CharField(max_length=60), max_length=100, required=False)
    expires_at = MomentField(allow_null=True, required=False)
    limits = OwnLimits(required=False, help_text="Those that are not given stay; null takes one off.")
    rules = OwnRules(required=False, help_text="Those that are not given stay; each is given whole.")


class NewKey(KeyFields):
    group_id = IdField()
    member_id = IdField(allow_null=True, help_text="null: a service key, which names its application.")


class Rotated(Body):
    old_until = MomentField(allow_null=True, required=False, help_text="Until when the old text works; left out: no longer.")


class SeveralKeys(Body):
    change = serializers.ChoiceField(choices=list(CHANGES), help_text="An active key is disabled before it is deleted.")
    key_ids = serializers.ListField(child=IdField(), min_length=1, max_length=MOST_KEYS)


class KeyChanged(serializers.Serializer[Any]):
    key_id = serializers.IntegerField()
    done = serializers.BooleanField()
    refusal = serializers.CharField(allow_blank=True, help_text="Why not, for people.")


class KeysChanged(serializers.Serializer[Any]):
    """In the order of what was sent, each key once."""

    outcomes = KeyChanged(many=True)


class KeysQuery(Paging):
    """As the console narrows its list."""

    status = serializers.ChoiceField(choices=STATUSES, required=False, help_text="Left out: all that are not deleted (revoked).")
    group = IdField(required=False, help_text="Those at home in this group and below.")
    whose = serializers.ChoiceField(choices=[MINE, SERVICE], required=False)
    member = IdField(required=False, help_text="The id of a person.")
    application = IdField(required=False)
    watch = serializers.ChoiceField(choices=WATCHES, required=False, help_text="Within 14 days; for 30 days.")
    search = serializers.CharField(required=False, max_length=100, help_text="Part of a name, or of what is shown of the key.")


class KeyView(OrgApiView):
    resource = "keys"
    writes = (P.MANAGE_OWN_KEYS, P.MANAGE_KEYS)

    def managed(self, key_id: int) -> ApiKey:
        return access_key_by_id(self.actor, key_id, P.MANAGE_KEYS)

    def named_in(self, given: dict[str, Any]) -> dict[str, Any]:
        """With the application in place of its id."""
        if "application_id" in given:
            wanted = given.pop("application_id")
            given["application"] = None if wanted is None else one_of(applications_visible_to(self.actor), wanted)
        return given

    def shown(self, key: ApiKey) -> Response:
        return Response(self._described(key))

    def shown_once(self, key: ApiKey, text: str, *, status: int = 200) -> Response:
        return Response({"key": self._described(key), "text": text}, status=status)

    def _described(self, key: ApiKey) -> dict[str, Any]:
        return {**KeyOut(load_own_limits(key)).data, "warnings": warnings_about_key(key, actor=self.actor)}


class Keys(KeyView):
    @operation("Keys you see", gives=KeyOut, many=True, query=KeysQuery)
    def get(self, request: Request, org: str) -> Response:
        narrowed = Narrowed(**{name: self.asked[name] for name in Narrowed._fields if name in self.asked})
        return self.page(with_own_limits(narrowed_keys(self.actor, narrowed)), KeyOut)

    @operation("Make a key; its text is given here once", takes=NewKey, gives=KeyWithText, status=201, once="text")
    def post(self, request: Request, org: str) -> Response:
        given = self.named_in(self.body(NewKey))
        group, member_id = one_of(groups_visible_to(self.actor), given.pop("group_id")), given.pop("member_id")
        member = None if member_id is None else person_in(self.actor, member_id)
        limits = KeyLimits(**given.pop("limits", {}))
        return self.shown_once(*create_limited_key(group, member=member, by=self.actor, limits=limits, **given), status=201)


class ChangedKeys(KeyView):
    @operation(
        "Disable, enable or delete several keys, each by itself: what is refused for one is told",
        takes=SeveralKeys,
        gives=KeysChanged,
    )
    def post(self, request: Request, org: str) -> Response:
        given = self.body(SeveralKeys)
        wanted = dict.fromkeys(given["key_ids"], NO_KEY)
        found = keys_visible_to(self.actor).filter(pk__in=wanted, revoked_at=None).order_by("pk")
        refusals = wanted | {one.key.pk: one.refusal for one in change_keys(found, change=given["change"], by=self.actor)}
        outcomes = [{"key_id": pk, "done": not words, "refusal": words} for pk, words in refusals.items()]
        return Response(KeysChanged({"outcomes": outcomes}).data)


class OneKey(KeyView):
    @operation("One key", gives=KeyWithWarnings)
    def get(self, request: Request, org: str, key_id: int) -> Response:
        return self.shown(access_key_by_id(self.actor, key_id, P.VIEW_USAGE))

    @operation("Change a key; what is not given stays", takes=KeyFields, gives=KeyWithWarnings)
    def patch(self, request: Request, org: str, key_id: int) -> Response:
        given = self.named_in(self.body(KeyFields, partial=True))
        limits, rules = given.pop("limits", {}), given.pop("rules", {})
        # What stays is read under the lock: nobody's change is written over.
        with changing(self.actor.organization):
            key = self.managed(key_id)
            if given:
                key = edit_key(key, by=self.actor, **{name: getattr(key, name) for name in ATTRIBUTES} | given)
            if limits or rules:
                kept = {kind: list(entries) for kind, entries in own_rules(key)._asdict().items()}
                set_key_limits(key, by=self.actor, rules=kept | rules, **own_limits(key)._replace(**limits)._asdict())
        return self.shown(key)

    @operation("Delete a key for ever", status=204)
    def delete(self, request: Request, org: str, key_id: int) -> Response:
        revoke_key(self.managed(key_id), by=self.actor)
        return Response(status=204)


class DisabledKey(KeyView):
    @operation("Disable a key: its next call is refused", gives=KeyWithWarnings)
    def post(self, request: Request, org: str, key_id: int) -> Response:
        return self.shown(disable_key(self.managed(key_id), by=self.actor))


class EnabledKey(KeyView):
    @operation("Enable a disabled key", gives=KeyWithWarnings)
    def post(self, request: Request, org: str, key_id: int) -> Response:
        return self.shown(enable_key(self.managed(key_id), by=self.actor))


class RotatedKey(KeyView):
    @operation("Give a key a new text, which is given here once", takes=Rotated, gives=KeyWithText, once="text")
    def post(self, request: Request, org: str, key_id: int) -> Response:
        return self.shown_once(*rotate_key(self.managed(key_id), by=self.actor, **self.body(Rotated)))


class EndedOldText(KeyView):
    @operation("End what a rotation left working: the old text is refused from the next call on", gives=KeyWithWarnings)
    def post(self, request: Request, org: str, key_id: int) -> Response:
        return self.shown(end_old_text(self.managed(key_id), by=self.actor))
