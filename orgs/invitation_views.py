"""Invitations: the list, a link, mails to many, a file of people."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from contextlib import suppress

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.views.decorators.http import require_http_methods, require_POST, require_safe
from django_htmx.http import HttpResponseClientRedirect

from gateway_project.lib.crypto import CannotDecrypt
from orgs import invitation_mail, member_files
from orgs.answers import go_to, show_refusal, tried
from orgs.doors import OrgRequest, org_view
from orgs.errors import Refused
from orgs.invitation_forms import FileForm, LinkForm, MailForm
from orgs.invitation_pages import access_import_by_id, access_invitation_by_id, invitation_page
from orgs.invitation_words import invited_as
from orgs.mail import is_printed
from orgs.models import Invitation, MemberImport
from orgs.permissions import Permission
from orgs.selectors import roles_visible_to
from orgs.services import imports
from orgs.services.invitations import invite, link_token, read_link, require_invitation, revoke_invitation
from orgs.services.inviting import Invited, invite_many
from orgs.templatetags.console import in_dialog
from orgs.viewing import look, refuse_change

PAGE = ["GET", "HEAD", "POST"]


@require_safe
@org_view(Permission.MANAGE_MEMBERS)
def invitations(request: OrgRequest) -> HttpResponse:
    return render(request, "orgs/invitations.html", invitation_page(request.GET, actor=request.actor))


@require_http_methods(PAGE)
@org_view(Permission.MANAGE_MEMBERS)
def new_link(request: OrgRequest) -> HttpResponse:
    form = LinkForm(request.POST if request.method == "POST" else None, actor=request.actor)
    if form.is_valid():
        typed = form.cleaned_data
        try:
            made = invite(
                form.group,
                role=form.role,
                email=typed["email"],
                max_uses=typed["max_uses"],
                expires_at=form.expires_at,
                by=request.actor,
            )
        except Refused as refused:
            show_refusal(form, refused)
        else:
            return _show_link(request, made)
    context = {"form": form, "form_action": request.path, "back_url": list_url(request)}
    return render(request, "orgs/invitation_new.html", context, status=422 if form.is_bound else 200)


@require_http_methods(PAGE)
@org_view(Permission.MANAGE_MEMBERS)
def by_mail(request: OrgRequest) -> HttpResponse:
    """All that can be invited are; why the others were not is told."""
    form = MailForm(request.POST if request.method == "POST" else None, actor=request.actor)
    if form.is_valid():
        people = [(one.email, one.name) for one in form.cleaned_data["emails"]]
        outcome = invite_many(people, group=form.group, role=form.role, expires_at=form.expires_at, by=request.actor)
        if outcome.made:
            _tell(request, outcome)
            return go_to(request, list_url(request))
        form.add_error("emails", " ".join(outcome.refused[:5]))
    context = {"form": form, "form_action": request.path, "back_url": list_url(request)}
    return render(request, "orgs/invitation_mail.html", context, status=422 if form.is_bound else 200)


@require_safe
@org_view(Permission.MANAGE_MEMBERS)
def link(request: OrgRequest, invitation_id: int) -> HttpResponse:
    """A secret, and read in one's own name only: who looks at the console as somebody else is refused."""
    refuse_change("READ", looks=look(request))
    found = access_invitation_by_id(request.actor, invitation_id)
    require_invitation(found, by=request.actor)
    return _show_link(request, found, read=True)


@require_POST
@org_view(Permission.MANAGE_MEMBERS)
def revoke(request: OrgRequest, invitation_id: int) -> HttpResponse:
    found = access_invitation_by_id(request.actor, invitation_id)
    tried(
        request,
        lambda: revoke_invitation(found, by=request.actor),
        "The invitation was taken back. Its link and mail no longer open anything.",
    )
    return redirect(list_url(request))


@require_POST
@org_view(Permission.MANAGE_MEMBERS)
def send(request: OrgRequest, invitation_id: int) -> HttpResponse:
    found = access_invitation_by_id(request.actor, invitation_id)
    require_invitation(found, by=request.actor)
    if found.email and found.is_open:
        invitation_mail.queue_again(found)
        gone = "The one before no longer opens the invitation."
        if is_printed():
            messages.warning(request, _printed(request, f"A new mail for {found.email} is made. {gone}", [found]))
        else:
            messages.success(request, f"A new mail goes to {found.email}. {gone}")
    else:
        messages.error(request, "Only an open invitation to an address can be sent.")
    return redirect(list_url(request))


@require_http_methods(PAGE)
@org_view(Permission.MANAGE_MEMBERS)
def upload(request: OrgRequest) -> HttpResponse:
    """Reads and judges a file. Nothing happens before it is confirmed."""
    form = FileForm(request.POST, request.FILES) if request.method == "POST" else FileForm()
    if form.is_valid():
        file = form.cleaned_data["file"]
        try:
            rows = imports.judge(member_files.read(file.read()), by=request.actor)
        except member_files.Unreadable as wrong:
            form.add_error("file", str(wrong))
        else:
            kept = imports.keep(rows, file_name=file.name, by=request.actor)
            return redirect("invitations:import", org=request.organization.slug, import_id=kept.pk)
    context = {"form": form, "back_url": list_url(request)}
    return render(request, "orgs/import_new.html", context, status=422 if form.is_bound else 200)


@require_http_methods(PAGE)
@org_view(Permission.MANAGE_MEMBERS)
def listed(request: OrgRequest, import_id: int) -> HttpResponse:
    """The preview; posted to, it invites; afterwards, what became of each row."""
    found = access_import_by_id(request.actor, import_id)
    if request.method == "POST":
        tried(request, lambda: imports.confirm(found, by=request.actor))
        return redirect(request.path)
    return render(request, "orgs/import.html", _import_context(request, found))


@require_safe
@org_view(Permission.MANAGE_MEMBERS)
def progress(request: OrgRequest, import_id: int) -> HttpResponse:
    """How far a list is, for its page, which asks again while it runs."""
    found = access_import_by_id(request.actor, import_id)
    if found.status == MemberImport.Status.DONE:
        return HttpResponseClientRedirect(reverse("invitations:import", args=[request.organization.slug, found.pk]))
    return render(request, "orgs/partials/_import_progress.html", _import_context(request, found))


@require_safe
@org_view(Permission.MANAGE_MEMBERS)
def template(request: OrgRequest) -> HttpResponse:
    """A file to fill in, with one line as an example."""
    groups = request.actor.scope(Permission.MANAGE_MEMBERS)
    role = next((role.name for role in roles_visible_to(request.actor)[:1]), "member")
    response = HttpResponse(content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = 'attachment; filename="members.csv"'
    rows = csv.writer(response)
    rows.writerow(member_files.COLUMNS)
    rows.writerow(["ada@example.com", "Ada Lovelace", groups[0].words() if groups else "", role])
    return response


def list_url(request: OrgRequest) -> str:
    return reverse("invitations:list", kwargs={"org": request.organization.slug})


def _show_link(request: OrgRequest, invitation: Invitation, *, read: bool = False) -> HttpResponse:
    """An open one's, as often as it is asked for; `read`: not by who has just made it."""
    url = ""
    if invitation.is_open:
        with suppress(CannotDecrypt):
            token = read_link(invitation, by=request.actor) if read else link_token(invitation)
            url = invitation_mail.accept_url(token)
    context = {
        "invitation": invitation,
        "role": invited_as(invitation),
        "url": url,
        "back_url": list_url(request),
    }
    return render(request, "orgs/invitation_link.html", context)


def _tell(request: OrgRequest, outcome: Invited) -> None:
    count = len(outcome.made)
    who = outcome.made[0].email if count == 1 else f"{count} people"
    if is_printed():
        messages.warning(request, _printed(request, f"Invited {who}.", outcome.made))
    else:
        messages.success(request, f"Invited {who}. {'The mails are on their way.' if count > 1 else 'The mail is on its way.'}")
    for words in outcome.refused[:5]:
        messages.error(request, words)
    if len(outcome.refused) > 5:
        messages.error(request, f"And {len(outcome.refused) - 5} more were not invited.")


def _printed(request: OrgRequest, done: str, made: Sequence[Invitation]) -> SafeString:
    """What to do where mails reach nobody: the link of the one invitation, or where those of several are."""
    why = "No mail server is set: mails stand in the log of this installation only (in the terminal of make run)."
    if len(made) > 1:
        return format_html("{} {} Copy each link from its menu in this list, and pass it on.", done, why)
    url = reverse("invitations:link", kwargs={"org": request.organization.slug, "invitation_id": made[0].pk})
    link = format_html('<a href="{}" {}>Copy the link</a>', url, in_dialog(url))
    return format_html("{} {} {} and pass it on.", done, why, link)


def _import_context(request: OrgRequest, found: MemberImport) -> dict[str, object]:
    good = [row for row in found.rows if not row["error"]]
    return {
        "import": found,
        "rows": found.rows,
        "good": len(good),
        "bad": len(found.rows) - len(good),
        "total": sum(1 for row in found.rows if row.get("done") or not row["error"]),
        "is_running": found.status in (MemberImport.Status.QUEUED, MemberImport.Status.RUNNING),
        "back_url": list_url(request),
    }
