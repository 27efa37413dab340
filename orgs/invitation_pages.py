"""What the pages of invitations show: rows, and one page of them."""

from __future__ import annotations

from typing import Any, NamedTuple
from urllib.parse import urlencode

from django.db.models import F, Q, QuerySet
from django.http import Http404, QueryDict
from django.utils import timezone

from gateway_project.lib.queries import id_in
from gateway_project.lib.rows import sole
from orgs.actor import LINEAGE, Actor
from orgs.invitation_words import invited_as, sent_words, uses_words
from orgs.models import Invitation, MemberImport
from orgs.permissions import Permission
from orgs.selectors import within
from orgs.services.invitations import may_manage

PAGE_SIZE = 50
STATUSES = {"": "Open", "closed": "Accepted, expired or taken back", "all": "All"}


class InvitationRow(NamedTuple):
    invitation: Invitation
    role: str
    path: str
    uses: str
    mail: str
    may_manage: bool


def invitations_visible_to(actor: Actor) -> QuerySet[Invitation]:
    """Into the groups whose members the actor manages; newest first."""
    here = within(actor.scope(Permission.MANAGE_MEMBERS), field="group")
    found = Invitation.objects.filter(here, organization=actor.organization)
    return found.select_related("organization", "created_by", "custom_role", LINEAGE).order_by("-pk")


def access_invitation_by_id(actor: Actor, invitation_id: int) -> Invitation:
    """Raises Http404."""
    found = sole(invitations_visible_to(actor).filter(pk=invitation_id))
    if found is None:
        raise Http404("no such invitation")
    return found


def access_import_by_id(actor: Actor, import_id: int) -> MemberImport:
    """One's own. Raises Http404."""
    found = MemberImport.objects.filter(organization=actor.organization, created_by=actor.user, pk=import_id).first()
    if found is None:
        raise Http404("no such list")
    return found


def invitation_page(query: QueryDict, *, actor: Actor) -> dict[str, Any]:
    """Rows and links of the page that the URL asks for."""
    status = asked if (asked := query.get("status", "")) in STATUSES else ""
    before = id_in(query.get("before"))
    found = invitations_visible_to(actor).filter(_in_status(status))
    found = found.filter(pk__lt=before) if before else found
    page = list(found[: PAGE_SIZE + 1])
    last = page[PAGE_SIZE - 1].pk if len(page) > PAGE_SIZE else None
    return {
        "rows": [_row(invitation, actor) for invitation in page[:PAGE_SIZE]],
        "status": status,
        "statuses": STATUSES.items(),
        "older_url": f"?{urlencode({'status': status, 'before': last})}" if last else "",
        "newer_url": f"?{urlencode({'status': status})}" if before else "",
        "newer_label": "Newest",
    }


def _in_status(status: str) -> Q:
    is_open = Q(revoked_at=None, expires_at__gt=timezone.now()) & (Q(max_uses=None) | Q(uses__lt=F("max_uses")))
    return {"": is_open, "closed": ~is_open}.get(status, Q())


def _row(invitation: Invitation, actor: Actor) -> InvitationRow:
    return InvitationRow(
        invitation,
        invited_as(invitation),
        invitation.group.words(),
        uses_words(invitation),
        sent_words(invitation) if invitation.is_open else "",
        may_manage(invitation, by=actor),
    )
