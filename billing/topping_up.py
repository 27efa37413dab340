"""The operator adds prepaid credit, by page or by command: what has come by transfer, or what a team is given.

A reference told twice is one movement: who clicks twice, or runs a script again, adds nothing.
"""

from __future__ import annotations

from django.db import transaction

from billing import credits
from billing.models import CreditTransaction
from gateway_project.lib.money import limit_usd
from orgs.audit import Value, audit_as
from orgs.errors import Refused
from orgs.models import Organization, User
from orgs.origin import NOWHERE, Origin
from orgs.services.freezing import Operator

REFERENCE_LENGTH, NOTE_LENGTH = 120, 200


def top_up_by(by: Operator, organization: Organization, *, amount_nano_usd: int, reference: str, note: str = "") -> bool:
    """Whether it was added now; False where this reference was told before. Raises Refused."""
    return top_up(organization, amount_nano_usd=amount_nano_usd, reference=reference, note=note, user=by.user, origin=by.origin)


@transaction.atomic
def top_up(
    organization: Organization,
    *,
    amount_nano_usd: int,
    reference: str,
    note: str = "",
    user: User | None = None,
    origin: Origin = NOWHERE,
) -> bool:
    """The same at the operator's own terminal, where nobody is signed in. Raises Refused."""
    # The lock of every movement of this pool: whether the reference is known is asked and decided once.
    Organization.objects.select_for_update(no_key=True).get(pk=organization.pk)
    known = CreditTransaction.objects.filter(organization=organization, reference=reference).exists()
    try:
        credits.top_up(organization, amount_nano_usd=amount_nano_usd, reference=reference, note=note, by=user)
    except credits.ReferenceTaken:
        raise Refused(f"“{reference}” stands for another movement already. Give each its own.", field="reference") from None
    except credits.TooMuchCredit as full:
        most, room = limit_usd(credits.MOST_FUNDED_NANO_USD), limit_usd(full.room)
        raise Refused(f"All credit of an organisation comes to {most} at most: {room} more would fit.", field="amount") from None
    if not known:
        facts: dict[str, Value] = {"amount_nano_usd": amount_nano_usd, "reference": reference, **({"note": note} if note else {})}
        audit_as(user, "credit.topped_up", organization=organization, origin=origin, target=organization, after=facts)
    return not known
