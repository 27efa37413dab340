"""Policies, for the API. Numbers are texts of digits: a budget's in nano-dollars, others' a count."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from guardrails.api.oddities import Warned
from guardrails.models import Limit, Policy, Rule
from guardrails.policy_selectors import policies_visible_to, warnings_about
from guardrails.services.policies import LimitSpec, change_policy, create_policy, delete_policy
from orgs.api.base import OrgApiView, one_of, operation
from orgs.api.fields import BigNumberField, Body
from orgs.api.paging import Paging
from orgs.permissions import Permission


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


class PolicyWithWarnings(PolicyOut, Warned):
    """Judged by itself, and wherever you see it bound against the policies above and below that you see."""


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


class PoliciesQuery(Paging):
    name = serializers.CharField(required=False, max_length=120, help_text="In capital or small letters.")


class PolicyView(OrgApiView):
    resource = "policies"
    writes = (Permission.MANAGE_GUARDRAILS,)

    def param_of(self, field: str) -> str:
        """Limits and rules are lists: "rpm minute" and "models" name an entry of them."""
        sent = {
            **{f"{limit['kind']} {limit['window']}": f"limits.{place}" for place, limit in self._listed("limits")},
            **{str(rule["kind"]): f"rules.{place}" for place, rule in self._listed("rules")},
        }
        return sent.get(field) or super().param_of(field)

    def _listed(self, name: str) -> list[tuple[int, dict[str, Any]]]:
        return list(enumerate(self.sent.get(name) or []))

    def found(self, policy_id: int) -> Policy:
        return one_of(policies_visible_to(self.actor), policy_id)

    def shown(self, policy: Policy, *, status: int = 200) -> Response:
        return Response({**PolicyOut(policy).data, "warnings": warnings_about(policy, actor=self.actor)}, status=status)


class Policies(PolicyView):
    @operation("Policies you see", gives=PolicyOut, many=True, query=PoliciesQuery)
    def get(self, request: Request, org: str) -> Response:
        return self.page(self.narrowed(policies_visible_to(self.actor), name="name__iexact"), PolicyOut)

    @operation("Make a policy, which binds nobody yet", takes=PolicyIn, gives=PolicyWithWarnings, status=201)
    def post(self, request: Request, org: str) -> Response:
        given = {"limits": [], **_contents(self.body(PolicyIn))}
        return self.shown(create_policy(self.actor.organization, by=self.actor, **given), status=201)


class OnePolicy(PolicyView):
    @operation("One policy", gives=PolicyWithWarnings)
    def get(self, request: Request, org: str, policy_id: int) -> Response:
        return self.shown(self.found(policy_id))

    @operation(
        "Change a policy; limits and rules are given whole, what is not given stays", takes=PolicyIn, gives=PolicyWithWarnings
    )
    def patch(self, request: Request, org: str, policy_id: int) -> Response:
        wanted = _contents(self.body(PolicyIn, partial=True))
        return self.shown(change_policy(self.found(policy_id), by=self.actor, **wanted))

    @operation("Delete a policy, with what it is bound to", status=204)
    def delete(self, request: Request, org: str, policy_id: int) -> Response:
        delete_policy(self.found(policy_id), by=self.actor, confirmed=True)
        return Response(status=204)


def _contents(given: dict[str, Any]) -> dict[str, Any]:
    """As the services take them."""
    if "limits" in given:
        given["limits"] = [LimitSpec(**limit) for limit in given["limits"]]
    if "rules" in given:
        listed = given["rules"]
        given["rules"] = {rule["kind"]: rule["entries"] for rule in listed}
        if len(given["rules"]) < len(listed):
            raise serializers.ValidationError({"rules": "A policy has one list of each kind."})
    return given
