"""Simulations, for the API: a period of the ledger replayed against a policy that may not be in force.

One is asked for, a background worker runs it, `status` and `progress` tell how far it is, and `result` what came out.
"""

from __future__ import annotations

from typing import Any

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from guardrails import windows
from guardrails.entries import MOST_ENTRIES, NAME
from guardrails.policy_selectors import policies_visible_to
from orgs.api.base import OrgApiView, one_of, operation
from orgs.api.fields import BigNumberField, Body, IdField
from orgs.permissions import Permission
from proxy import simulation_services as services
from proxy.models import Simulation
from proxy.simulating.proposal import Limit, Proposal, Rule, Target
from proxy.simulating.wording import title
from proxy.simulation_results import described
from proxy.simulation_services import Span, Wanted

# Windows of each kind of limit that the ledger can be replayed against.
BUDGET_WINDOWS = (*windows.BOUNDED, "total")
COUNT_WINDOWS = {"rpm": "minute", "tpm": "minute", "rpd": "day", "parallel": "now", "max_tokens": "call"}
TARGETS = ("group", "members", "keys", "application")
LISTS = ("models", "blocked_models", "providers")
MOST = 10**15


def _refuse_odd_name(entry: str) -> None:
    if not NAME.fullmatch(entry):
        raise serializers.ValidationError("Give the name of a model or provider; * and ? stand for any characters.")


class TriedLimit(Body):
    kind = serializers.ChoiceField(choices=["budget", *COUNT_WINDOWS])
    window = serializers.ChoiceField(choices=[*BUDGET_WINDOWS, "minute", "now", "call"])
    value = BigNumberField(help_text="Nano-dollars of a budget, else a count.")
    counts_byok = serializers.BooleanField(default=False, help_text="Of a budget: calls on own provider keys count, too.")

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        kind = attrs["kind"]
        fitting = BUDGET_WINDOWS if kind == "budget" else (COUNT_WINDOWS[kind],)
        if attrs["window"] not in fitting:
            raise serializers.ValidationError({"window": f"A limit of this kind is per {', '.join(fitting)}."})
        if not 1 <= attrs["value"] <= MOST:
            raise serializers.ValidationError({"value": f"Give a number from 1 to {MOST:,}."})
        if attrs["counts_byok"] and kind != "budget":
            raise serializers.ValidationError({"counts_byok": "Only budgets count what own provider keys pay for."})
        return attrs


class TriedRule(Body):
    kind = serializers.ChoiceField(choices=LISTS)
    entries = serializers.ListField(
        child=serializers.CharField(max_length=200, validators=[_refuse_odd_name]), min_length=1, max_length=MOST_ENTRIES
    )


class TriedOn(Body):
    kind = serializers.ChoiceField(choices=TARGETS, help_text="`members` and `keys`: each one below the group.")
    id = IdField(help_text="Of the group, or of the application. The root group stands for the organisation.")


class NewSimulation(Body):
    """Either `policy_id`, or `limits` and `rules`."""

    name = serializers.CharField(max_length=120, required=False, help_text="Left out: made from the limits.")
    policy_id = IdField(required=False)
    limits = TriedLimit(many=True, required=False)
    rules = TriedRule(many=True, required=False)
    targets = TriedOn(many=True, help_text=f"At most {services.MOST_TARGETS}.")
    span = serializers.ChoiceField(choices=Span.choices, default=Span.LAST_MONTH)
    first = serializers.DateField(required=False, help_text="Of `custom`: its first day, by the organisation's calendar.")
    last = serializers.DateField(required=False, help_text="Of `custom`: its last day, included.")

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if "policy_id" in attrs and ("limits" in attrs or "rules" in attrs):
            raise serializers.ValidationError({"policy_id": "Give a policy, or limits and rules, not both."})
        for name in ("first", "last"):
            if (name in attrs) != (attrs["span"] == Span.CUSTOM):
                raise serializers.ValidationError({name: "The span custom needs its days, and no other takes any."})
        for name, parts in (("limits", ("kind", "window")), ("rules", ("kind",))):
            named = [tuple(one[part] for part in parts) for one in attrs.get(name, [])]
            if len(set(named)) < len(named):
                raise serializers.ValidationError({name: f"Give one of each {' and '.join(parts)}."})
        return attrs


class LimitTried(serializers.Serializer[Any]):
    kind = serializers.CharField()
    window = serializers.CharField()
    value = BigNumberField()
    counts_byok = serializers.BooleanField(default=False)


class RuleTried(serializers.Serializer[Any]):
    kind = serializers.CharField()
    entries = serializers.ListField(child=serializers.CharField())


class TargetTried(serializers.Serializer[Any]):
    kind = serializers.CharField()
    id = serializers.IntegerField()


class SimulationOut(serializers.Serializer[Simulation]):
    id = serializers.IntegerField()
    name = serializers.CharField()
    policy_id = serializers.IntegerField(allow_null=True, help_text="Where limits and rules were taken from.")
    limits = LimitTried(many=True, source="proposal.limits")
    rules = RuleTried(many=True, source="proposal.rules")
    targets = TargetTried(many=True, source="proposal.targets")
    left_out = serializers.ListField(
        child=serializers.CharField(), source="proposal.left_out", help_text="Of the policy, what the ledger cannot tell."
    )
    span = serializers.ChoiceField(choices=Span.choices)
    starts_at = serializers.DateTimeField()
    ends_at = serializers.DateTimeField(help_text="The first moment after it.")
    status = serializers.ChoiceField(choices=Simulation.Status.choices)
    progress = serializers.IntegerField(help_text="Percent.")
    calls = serializers.IntegerField(help_text="Read so far.")
    error = serializers.CharField(help_text="Of a failed one: why, for people.")
    created_by_id = serializers.IntegerField()
    created_at = serializers.DateTimeField()
    started_at = serializers.DateTimeField(allow_null=True)
    finished_at = serializers.DateTimeField(allow_null=True)


class Sum(serializers.Serializer[Any]):
    calls = serializers.IntegerField()
    nano_usd = BigNumberField()


class RefusedBy(Sum):
    number = serializers.IntegerField(help_text="Of the limit or rule: limits first, from 0, in their order, then rules.")


class RefusedWho(RefusedBy):
    kind = serializers.CharField(help_text="key, application, member, group or organisation.")
    id = serializers.IntegerField(allow_null=True)
    name = serializers.CharField(help_text="As it was called then.")
    at = serializers.DateTimeField(help_text="Of the first refusal.")


class FirstRefused(RefusedWho):
    call_id = serializers.UUIDField()
    window_starts_at = serializers.DateTimeField(allow_null=True)


class RefusedCall(RefusedWho):
    call_id = serializers.UUIDField()
    model = serializers.CharField()


class DayTried(serializers.Serializer[Any]):
    starts_at = serializers.DateTimeField()
    passed = Sum()
    refused = Sum()


class Outcome(serializers.Serializer[Any]):
    """What the policy would have let through and refused. Lists are bounded: the counts beside them are not."""

    passed = Sum()
    refused = Sum()
    by_limit = RefusedBy(many=True)
    subjects = RefusedWho(many=True, help_text="By subject and limit, what would have been refused: most money first.")
    subject_count = serializers.IntegerField(help_text="Subjects refused at least once.")
    subject_line_count = serializers.IntegerField(help_text="Of which `subjects` lists the first.")
    days = DayTried(many=True)
    firsts = FirstRefused(many=True, help_text="By limit, subject and window, the first refusal and all that it would have cost.")
    first_count = serializers.IntegerField()
    sample = RefusedCall(many=True, help_text="The dearest calls that would have been refused.")


class SimulationWithResult(SimulationOut):
    result = Outcome(allow_null=True, help_text="null until it is done.")


class SimulationView(OrgApiView):
    resource = "simulations"
    reads = writes = (Permission.MANAGE_GUARDRAILS,)

    def found(self, simulation_id: int) -> Simulation:
        return services.access_simulation_by_id(self.actor, simulation_id)

    def shown(self, simulation_id: int, *, status: int = 200) -> Response:
        simulation = self.found(simulation_id)
        facts = SimulationOut(simulation).data
        result = Outcome(described(simulation)).data if simulation.status == Simulation.Status.DONE else None
        return Response({**facts, "result": result}, status=status)


class Simulations(SimulationView):
    @operation("Simulations you see", gives=SimulationOut, many=True)
    def get(self, request: Request, org: str) -> Response:
        return self.page(services.visible_to(self.actor), SimulationOut)

    @operation("Start a simulation", takes=NewSimulation, gives=SimulationWithResult, status=201)
    def post(self, request: Request, org: str) -> Response:
        return self.shown(services.start(self._wanted(self.body(NewSimulation)), by=self.actor).pk, status=201)

    def _wanted(self, given: dict[str, Any]) -> Wanted:
        organization = self.actor.organization
        policy = one_of(policies_visible_to(self.actor), given["policy_id"]) if "policy_id" in given else None
        limits = tuple(Limit(**limit) for limit in given.get("limits", []))
        rules = tuple(Rule(rule["kind"], tuple(dict.fromkeys(rule["entries"]))) for rule in given.get("rules", []))
        targets = tuple(dict.fromkeys(Target(**target) for target in given["targets"]))
        period = services.period_of(given["span"], organization=organization) or services.period_between(
            given["first"], given["last"], organization=organization
        )
        made_up = policy.name if policy else title(Proposal(limits, rules, targets), longest=60)
        return Wanted(given.get("name", made_up), policy, limits, rules, targets, given["span"], period)


class OneSimulation(SimulationView):
    @operation("One simulation, with its result", gives=SimulationWithResult)
    def get(self, request: Request, org: str, simulation_id: int) -> Response:
        return self.shown(simulation_id)

    @operation("Delete a simulation; one that runs stops", status=204)
    def delete(self, request: Request, org: str, simulation_id: int) -> Response:
        services.delete(self.found(simulation_id), by=self.actor)
        return Response(status=204)


class CancelledSimulation(SimulationView):
    @operation("Cancel a simulation that has not ended", gives=SimulationWithResult)
    def post(self, request: Request, org: str, simulation_id: int) -> Response:
        services.cancel(self.found(simulation_id), by=self.actor)
        return self.shown(simulation_id)


class RepeatedSimulation(SimulationView):
    @operation("Run a simulation again, with its policy and month as they are now", gives=SimulationWithResult)
    def post(self, request: Request, org: str, simulation_id: int) -> Response:
        services.start_again(self.found(simulation_id), by=self.actor)
        return self.shown(simulation_id)
