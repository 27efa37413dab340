"""Telling the Super Admins that a domain's record is gone, a week before its proof lapses, and once more when it has lapsed.

Guarantees: what is said is what is so when the mail is written; a record that came back meanwhile is not spoken of. Does not
guarantee that the mail arrives: the page of the domains says the same.
"""

from __future__ import annotations

from django.conf import settings
from django.urls import reverse

from gateway_project.lib.formatting import minute_words
from orgs import mail
from orgs.actor import Actor
from orgs.mail import Message, compose
from orgs.models import RoleGrant, User
from orgs.permissions import Permission, RoleName
from orgs.sso_models import Domain


def queue(domain: Domain) -> None:
    """To each of them, by a task of its own."""
    root = domain.organization.root
    admins = RoleGrant.objects.filter(group=root, role=RoleName.ADMIN, user__is_active=True).order_by("user")
    for user_id in admins.values_list("user", flat=True).distinct():
        mail.queue("orgs.tasks.tell_of_domain", domain.pk, user_id)


def send(domain_id: int, user_id: int) -> bool:
    """Whether there was something to tell, and somebody. Raises OSError or SMTPException where the mail server refuses."""
    domain = Domain.objects.filter(pk=domain_id).select_related("organization").first()
    user = User.objects.filter(pk=user_id, is_active=True).first()
    if domain is None or user is None or (domain.verified_at and not domain.missing_since):
        return False
    if not Actor.load(user, organization=domain.organization).can_everywhere(Permission.MANAGE_SETTINGS):
        return False
    compose(_missing(domain) if domain.verified_at else _lapsed(domain), to=user.email).send()
    return True


def _missing(domain: Domain) -> Message:
    until = f"{minute_words(domain.lapses_at)} UTC" if domain.lapses_at else ""
    return Message(
        subject=f"The DNS record of {domain} is gone",
        paragraphs=(
            f"{domain.organization} has proven by a DNS record that {domain} is its own, and the record is no longer found.",
            f"Until {until} nothing changes. If it is not back by then, the proof lapses: single sign-on and provisioning"
            f" no longer reach addresses at {domain}.",
            f"It is a TXT record of {domain} and reads {domain.txt_record}",
        ),
        button="See the domain",
        link=_page(domain),
    )


def _lapsed(domain: Domain) -> Message:
    return Message(
        subject=f"{domain} no longer counts as verified",
        paragraphs=(
            f"Its DNS record was missing for {Domain.GRACE.days} days, so {domain.organization}'s proof has lapsed: single"
            f" sign-on and provisioning no longer reach addresses at {domain}.",
            "Put the record back, or have a code sent to the postmaster, and verify the domain again.",
        ),
        button="Verify it again",
        link=_page(domain),
    )


def _page(domain: Domain) -> str:
    return f"{settings.PUBLIC_URL}{reverse('sso_console:domains', kwargs={'org': domain.organization.slug})}"
