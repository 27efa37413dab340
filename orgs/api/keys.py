from __future__ import annotations

from typing import Any

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from orgs.api.base import OrgApiView, one_of, operation
from orgs.api.fields import Body, IdField
from orgs.api.people import person_in
from orgs.lookups import access_key_by_id
from orgs.models import ApiKey
from orgs.permissions import Permission
from orgs.selectors import applications_visible_to, groups_visible_to, keys_visible_to
from orgs.services.keys import create_api_key, disable_key, edit_key, enable_key, revoke_key, rotate_key

P = Permission


class KeyOut(serializers.Serializer[ApiKey]):
    id = serializers.IntegerField()
    public_id = serializers.CharField()
    prefix = serializers.CharField(help_text="What may be shown of it.")
    name = serializers.CharField()
    status = serializers.ChoiceField(choices=["active", "disabled", "expired", "revoked"])
    group_id = serializers.IntegerField()
    member_id = serializers.IntegerField(allow_null=True)
    application_id = serializers.IntegerField(allow_null=True)
    environment = serializers.CharField()
    features = serializers.ListField(child=serializers.CharField())
    expires_at = serializers.DateTimeField(allow_null=True)
    created_at = serializers.DateTimeField()


class KeyWithText(serializers.Serializer[Any]):
    """The only answer that ever holds the text of the key."""

    key = KeyOut()
    text = serializers.CharField()


class KeyFields(Body):
    name = serializers.CharField(max_length=120)
    application_id = IdField(allow_null=True, required=False)
    environment = serializers.CharField(max_length=30, allow_blank=True, required=False)
    features = serializers.ListField(child=serializers.CharField(max_length=60), max_length=100, required=False)
    expires_at = serializers.DateTimeField(allow_null=True, required=False)


class NewKey(KeyFields):
    group_id = IdField()
    member_id = IdField(allow_null=True, help_text="null: a service key, which names its application.")


class Rotated(Body):
    old_until = serializers.DateTimeField(allow_null=True, required=False, help_text="Until when the old text works.")


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


class Keys(KeyView):
    @operation("Keys you see", gives=KeyOut, many=True)
    def get(self, request: Request, org: str) -> Response:
        return self.page(keys_visible_to(self.actor), KeyOut)

    @operation("Make a key; its text is given here once", takes=NewKey, gives=KeyWithText, status=201)
    def post(self, request: Request, org: str) -> Response:
        given = self.named_in(self.body(NewKey))
        group, member_id = one_of(groups_visible_to(self.actor), given.pop("group_id")), given.pop("member_id")
        member = None if member_id is None else person_in(self.actor, member_id)
        key, text = create_api_key(group, member=member, by=self.actor, **given)
        return Response(KeyWithText({"key": key, "text": text}).data, status=201)


class OneKey(KeyView):
    @operation("One key", gives=KeyOut)
    def get(self, request: Request, org: str, key_id: int) -> Response:
        return Response(KeyOut(access_key_by_id(self.actor, key_id, P.VIEW_USAGE)).data)

    @operation("Change a key; what is not given stays", takes=KeyFields, gives=KeyOut)
    def patch(self, request: Request, org: str, key_id: int) -> Response:
        key, given = self.managed(key_id), self.named_in(self.body(KeyFields, partial=True))
        now = {name: getattr(key, name) for name in ("name", "application", "environment", "features", "expires_at")}
        return Response(KeyOut(edit_key(key, by=self.actor, **{**now, **given})).data)

    @operation("Delete a key for ever", status=204)
    def delete(self, request: Request, org: str, key_id: int) -> Response:
        revoke_key(self.managed(key_id), by=self.actor)
        return Response(status=204)


class DisabledKey(KeyView):
    @operation("Disable a key: its next call is refused", gives=KeyOut)
    def post(self, request: Request, org: str, key_id: int) -> Response:
        return Response(KeyOut(disable_key(self.managed(key_id), by=self.actor)).data)


class EnabledKey(KeyView):
    @operation("Enable a disabled key", gives=KeyOut)
    def post(self, request: Request, org: str, key_id: int) -> Response:
        return Response(KeyOut(enable_key(self.managed(key_id), by=self.actor)).data)


class RotatedKey(KeyView):
    @operation("Give a key a new text, which is given here once", takes=Rotated, gives=KeyWithText)
    def post(self, request: Request, org: str, key_id: int) -> Response:
        key, text = rotate_key(self.managed(key_id), by=self.actor, **self.body(Rotated))
        return Response(KeyWithText({"key": key, "text": text}).data)
