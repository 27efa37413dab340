"""The credit pool, for the API: to be read only. Amounts are nano-dollars (10⁻⁹ USD) as texts of digits."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from billing.credits import funded, movements_of, sees_credit, spent
from billing.models import CreditTransaction
from orgs.api.base import OrgApiView, operation
from orgs.api.fields import BigNumberField
from orgs.api.paging import Paging
from orgs.errors import NotAllowed
from orgs.permissions import Permission


class CreditOut(serializers.Serializer[Any]):
    funded_nano_usd = BigNumberField(help_text="All that ever flowed in, less what was given back.")
    spent_nano_usd = BigNumberField(help_text="What the ledger has charged so far.")
    available_nano_usd = BigNumberField(help_text="What is left. Calls in flight are not deducted.")


class MovementOut(serializers.Serializer[CreditTransaction]):
    id = serializers.IntegerField()
    kind = serializers.ChoiceField(choices=CreditTransaction.Kind.choices)
    amount_nano_usd = BigNumberField(source="amount", help_text="Into the pool; with a minus out of it.")
    reference = serializers.CharField(help_text="One reference is one movement.")
    note = serializers.CharField()
    created_by_id = serializers.IntegerField(allow_null=True)
    created_at = serializers.DateTimeField()


class MovementsQuery(Paging):
    kind = serializers.ChoiceField(choices=CreditTransaction.Kind.choices, required=False)


class CreditView(OrgApiView):
    """For whoever sees the pool in the console."""

    resource = "credit"
    reads = (Permission.VIEW_BILLING, Permission.TOP_UP)

    def enter(self, request: Request, **kwargs: Any) -> None:
        super().enter(request, **kwargs)
        if not sees_credit(self.actor):
            raise NotAllowed(Permission.VIEW_BILLING, group=self.actor.organization.root)


class Credit(CreditView):
    @operation("The prepaid credit", gives=CreditOut)
    def get(self, request: Request, org: str) -> Response:
        # Each is read once: what is added meanwhile must not look like money that came back.
        flowed, used = funded(self.actor.organization), spent(self.actor.organization)
        facts = {"funded_nano_usd": flowed, "spent_nano_usd": used, "available_nano_usd": flowed - used}
        return Response(CreditOut(facts).data)


class Movements(CreditView):
    @operation("What moved the credit; usage is booked in sums", gives=MovementOut, many=True, query=MovementsQuery)
    def get(self, request: Request, org: str) -> Response:
        return self.page(self.narrowed(movements_of(self.actor.organization), kind="kind"), MovementOut)
