"""Policies and what they are bound to, for the API. Numbers are texts of digits: a budget's in nano-dollars, others' a count."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from guardrails.lookups import access_binding_by_id
from guardrails.models import Binding, Limit, Policy, Rule
from guardrails.policy_selectors import bindings_visible_to, policies_visible_to
from guardrails.services.bindings import bind, unbind
from guardrails.services.policies import LimitSpec, change_policy, create_policy, delete_policy
from guardrails.subjects import column_of, find
from orgs.api.base import OrgApiView, one_of, operation
from orgs.api.fields import BigNumberField, Body, IdField
from orgs.models import User
from orgs.permissions import Permission

# As tokens of forms name them (guardrails/subjects.py).
KINDS = {"group": "g", "member": "m", "api_key": "k", "application": "a"}


class LimitOut(serializers.Serializer[Limit]):
    kind = serializers.ChoiceField(choices=Limit.Kind.choices)
    window = serializers.ChoiceField(choices=Limit.Window.choices)
    value = BigNumberField()
    counts_byok = serializers.BooleanField()


class RuleOut(serializers.Serializer[Rule]):
    kind = serializers.ChoiceField(choices=Rule.Kind.choices)
    entries = serializers.ListField(child=serializers.CharField())


class PolicyOut(serializers.Serializer[Policy]):
    id = serializers.IntegerField()
    name = serializers.CharField()
    description = serializers.CharField()
    limits = LimitOut(many=True, source="limits.all")
    rules = RuleOut(many=True, source="rules.all")
    clamp = serializers.BooleanField(allow_null=True)
    clamp_least_tokens = serializers.IntegerField(allow_null=True)
    observed_holds = serializers.BooleanField(allow_null=True)
    degrade_percent = serializers.IntegerField(allow_null=True)
    degrade_model = serializers.CharField()
    created_at = serializers.DateTimeField()


class LimitIn(Body):
    kind = serializers.ChoiceField(choices=Limit.Kind.choices)
    window = serializers.ChoiceField(choices=Limit.Window.choices)
    value = BigNumberField()
    counts_byok = serializers.BooleanField(default=False)


class RuleIn(Body):
    kind = serializers.ChoiceField(choices=Rule.Kind.choices)
    entries = serializers.ListField(child=serializers.CharField(max_length=200), max_length=1000)


class PolicyIn(Body):
    name = serializers.CharField(max_length=120)
    description = serializers.CharField(max_length=300, allow_blank=True, required=False)
    limits = LimitIn(many=True, required=False)
    rules = RuleIn(many=True, required=False)
    clamp = serializers.BooleanField(allow_null=True, required=False)
    clamp_least_tokens = serializers.IntegerField(min_value=1, max_value=2**31 - 1, allow_null=True, required=False)
    observed_holds = serializers.BooleanField(allow_null=True, required=False)
    degrade_percent = serializers.IntegerField(min_value=1, max_value=100, allow_null=True, required=False)
    degrade_model = serializers.CharField(max_length=200, allow_blank=True, required=False)


class SubjectOut(serializers.Serializer[Any]):
    kind = serializers.ChoiceField(choices=list(KINDS))
    id = serializers.IntegerField()
    name = serializers.CharField()


class BindingOut(serializers.Serializer[Binding]):
    id = serializers.IntegerField()
    policy_id = serializers.IntegerField()
    subject = serializers.SerializerMethodField()
    reach = serializers.ChoiceField(choices=Binding.Reach.choices)
    created_at = serializers.DateTimeField()

    @extend_schema_field(SubjectOut)
    def get_subject(self, binding: Binding) -> dict[str, Any]:
        subject = binding.subject
        name = subject.display_name if isinstance(subject, User) else subject.name
        return {"kind": column_of(subject), "id": subject.pk, "name": name}


class SubjectIn(Body):
    kind = serializers.ChoiceField(choices=list(KINDS))
    id = IdField()


class BindingIn(Body):
    policy_id = IdField()
    subject = SubjectIn()
    reach = serializers.ChoiceField(choices=Binding.Reach.choices, default=Binding.Reach.SELF)


class PolicyView(OrgApiView):
    resource = "policies"
    writes = (Permission.MANAGE_GUARDRAILS,)

    def found(self, policy_id: int) -> Policy:
        return one_of(policies_visible_to(self.actor), policy_id)

    def shown(self, policy: Policy, *, status: int = 200) -> Response:
        return Response(PolicyOut(policy).data, status=status)


class Policies(PolicyView):
    @operation("Policies you see", gives=PolicyOut, many=True)
    def get(self, request: Request, org: str) -> Response:
        return self.page(policies_visible_to(self.actor), PolicyOut)

    @operation("Make a policy, which binds nobody yet", takes=PolicyIn, gives=PolicyOut, status=201)
    def post(self, request: Request, org: str) -> Response:
        given = {"limits": [], **_contents(self.body(PolicyIn))}
        return self.shown(create_policy(self.actor.organization, by=self.actor, **given), status=201)


class OnePolicy(PolicyView):
    @operation("One policy", gives=PolicyOut)
    def get(self, request: Request, org: str, policy_id: int) -> Response:
        return self.shown(self.found(policy_id))

    @operation("Change a policy; limits and rules are given whole, what is not given stays", takes=PolicyIn, gives=PolicyOut)
    def patch(self, request: Request, org: str, policy_id: int) -> Response:
        wanted = _contents(self.body(PolicyIn, partial=True))
        return self.shown(change_policy(self.found(policy_id), by=self.actor, **wanted))

    @operation("Delete a policy, with what it is bound to", status=204)
    def delete(self, request: Request, org: str, policy_id: int) -> Response:
        delete_policy(self.found(policy_id), by=self.actor, confirmed=True)
        return Response(status=204)


class Bindings(OrgApiView):
    resource = "policies"
    writes = (Permission.MANAGE_GUARDRAILS,)

    @operation("What policies are bound to, as far as you see it", gives=BindingOut, many=True)
    def get(self, request: Request, org: str) -> Response:
        return self.page(bindings_visible_to(self.actor).select_related(*KINDS), BindingOut)

    @operation("Bind a policy to a group, member, key or application", takes=BindingIn, gives=BindingOut, status=201)
    def post(self, request: Request, org: str) -> Response:
        given = self.body(BindingIn)
        policy = one_of(policies_visible_to(self.actor), given["policy_id"])
        subject = find(self.actor, f"{KINDS[given['subject']['kind']]}{given['subject']['id']}")
        if subject is None:
            raise serializers.ValidationError({"subject": "There is no such thing, or none whose guardrails you manage."})
        made = bind(policy, subject=subject, by=self.actor, reach=given["reach"])
        return Response(BindingOut(made).data, status=201)


class OneBinding(OrgApiView):
    resource = "policies"
    writes = (Permission.MANAGE_GUARDRAILS,)

    @operation("One binding", gives=BindingOut)
    def get(self, request: Request, org: str, binding_id: int) -> Response:
        return Response(BindingOut(one_of(bindings_visible_to(self.actor), binding_id)).data)

    @operation("Take a policy off", status=204)
    def delete(self, request: Request, org: str, binding_id: int) -> Response:
        one_of(bindings_visible_to(self.actor), binding_id)
        unbind(access_binding_by_id(self.actor, binding_id), by=self.actor)
        return Response(status=204)


def _contents(given: dict[str, Any]) -> dict[str, Any]:
    """As the services take them."""
    if "limits" in given:
        given["limits"] = [LimitSpec(**limit) for limit in given["limits"]]
    if "rules" in given:
        given["rules"] = {rule["kind"]: rule["entries"] for rule in given["rules"]}
    return given
