"""What policies are bound to, for the API."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from guardrails.api.oddities import Warned
from guardrails.api.subjects import KINDS, SubjectIn, SubjectOut, described, subject_in
from guardrails.lookups import access_binding_by_id
from guardrails.models import Binding
from guardrails.policy_selectors import bindings_visible_to, policies_visible_to, warnings_at
from guardrails.services.bindings import bind, unbind
from orgs.api.base import OrgApiView, one_of, operation
from orgs.api.fields import Body, IdField
from orgs.api.paging import Paging
from orgs.permissions import Permission


class BindingOut(serializers.Serializer[Binding]):
    id = serializers.IntegerField()
    policy_id = serializers.IntegerField()
    subject = serializers.SerializerMethodField()
    reach = serializers.ChoiceField(choices=Binding.Reach.choices)
    created_at = serializers.DateTimeField()

    @extend_schema_field(SubjectOut)
    def get_subject(self, binding: Binding) -> dict[str, Any]:
        return described(binding)


class BindingWithWarnings(BindingOut, Warned):
    """Its policy judged at this very place, against the policies above and below that you see."""


class BindingIn(Body):
    policy_id = IdField()
    subject = SubjectIn()
    reach = serializers.ChoiceField(choices=Binding.Reach.choices, default=Binding.Reach.SELF)


class BindingsQuery(Paging):
    policy = IdField(required=False)
    group = IdField(required=False, help_text="Bound to this very group; the next three likewise.")
    member = IdField(required=False, help_text="The id of a person.")
    api_key = IdField(required=False)
    application = IdField(required=False)


class BindingView(OrgApiView):
    resource = "policies"
    writes = (Permission.MANAGE_GUARDRAILS,)

    def shown(self, binding: Binding) -> dict[str, Any]:
        return {**BindingOut(binding).data, "warnings": warnings_at(binding, actor=self.actor)}


class Bindings(BindingView):
    @operation("What policies are bound to, as far as you see it", gives=BindingOut, many=True, query=BindingsQuery)
    def get(self, request: Request, org: str) -> Response:
        found = bindings_visible_to(self.actor).select_related(*KINDS)
        return self.page(self.narrowed(found, policy="policy", **{kind: kind for kind in KINDS}), BindingOut)

    @operation("Bind a policy to a group, member, key or application", takes=BindingIn, gives=BindingWithWarnings, status=201)
    def post(self, request: Request, org: str) -> Response:
        given = self.body(BindingIn)
        policy = one_of(policies_visible_to(self.actor), given["policy_id"])
        made = bind(policy, subject=subject_in(given["subject"], actor=self.actor), by=self.actor, reach=given["reach"])
        return Response(self.shown(made), status=201)


class OneBinding(BindingView):
    @operation("One binding", gives=BindingWithWarnings)
    def get(self, request: Request, org: str, binding_id: int) -> Response:
        return Response(self.shown(one_of(bindings_visible_to(self.actor), binding_id)))

    @operation("Take a policy off", status=204)
    def delete(self, request: Request, org: str, binding_id: int) -> Response:
        one_of(bindings_visible_to(self.actor), binding_id)
        unbind(access_binding_by_id(self.actor, binding_id), by=self.actor)
        return Response(status=204)
