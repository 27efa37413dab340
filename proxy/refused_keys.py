"""The alarm for keys that providers refuse: since when, for the pages, and one mail for each key and episode.

An episode begins with the first refusal and ends with a success of that key, or with a new one. The operator's key is told to the
staff of this installation, an organisation's own to its Super Admins. No call waits for any of it: marks are set with what
workers tell each other anyway, mails go out of a scheduled task.
"""

from __future__ import annotations

import smtplib
from collections.abc import Collection, Iterable
from datetime import datetime
from typing import NamedTuple

import structlog
from django.conf import settings
from django.db.models import QuerySet
from django.urls import reverse

from gateway_project.lib.formatting import minute_words
from orgs.mail import Message, compose
from orgs.models import User
from orgs.selectors import super_admins
from proxy.health import refused
from proxy.health.refused import Refusal
from proxy.models import Deployment, Provider, ProviderKey

log = structlog.get_logger(__name__)

ONCE = "This is told once, until a call succeeds again."


class Account(NamedTuple):
    """Whose key is refused: an organisation's own, or the operator's at a provider."""

    holder: ProviderKey | Provider
    since: datetime

    @property
    def name(self) -> str:
        is_tenants = isinstance(self.holder, ProviderKey)
        return refused.own_account(self.holder.pk) if is_tenants else refused.account(self.holder.pk)


def of_providers() -> dict[int, datetime]:
    """Providers at which the operator's key is refused → since when."""
    marks = {mark.deployment_id: mark for mark in refused.shown() if mark.own_key_id is None}
    serving = Deployment.objects.filter(pk__in=marks).select_related("provider") if marks else ()
    return _of_operator((one, marks[one.pk]) for one in serving)


def of_own_keys() -> dict[int, datetime]:
    """Own keys that are refused → since when."""
    return _of_tenants(refused.shown())


def tell() -> int:
    """→ how many people were told. Marks of what is gone or switched off are dropped. Raises RedisError."""
    marks = refused.found()
    accounts = [*_accounts_of_tenants(marks), *_accounts_of_operator(marks)]
    refused.end_all_but([account.name for account in accounts])
    return sum(_tell(account) for account in accounts if refused.is_to_be_told(account.name))


def _accounts_of_tenants(marks: Iterable[Refusal]) -> list[Account]:
    own = [mark for mark in marks if mark.own_key_id is not None]
    keys = {key.pk: key for key in _keys_in_use({mark.own_key_id for mark in own if mark.own_key_id is not None})}
    refused.forget(mark for mark in own if mark.own_key_id not in keys)
    return [Account(keys[pk], since) for pk, since in _of_tenants(own).items() if pk in keys]


def _keys_in_use(own_key_ids: Collection[int]) -> QuerySet[ProviderKey]:
    return ProviderKey.objects.filter(pk__in=own_key_ids, enabled=True).select_related("organization", "provider")


def _accounts_of_operator(marks: Iterable[Refusal]) -> list[Account]:
    own = {mark.deployment_id: mark for mark in marks if mark.own_key_id is None}
    serving = Deployment.objects.filter(pk__in=own, model__enabled=True, provider__enabled=True).select_related("provider")
    served = {one.pk: one for one in serving}
    refused.forget(mark for pk, mark in own.items() if pk not in served)
    since = _of_operator((one, own[pk]) for pk, one in served.items())
    providers = {one.provider_id: one.provider for one in served.values()}
    return [Account(providers[pk], moment) for pk, moment in since.items()]


def _of_operator(marks: Iterable[tuple[Deployment, Refusal]]) -> dict[int, datetime]:
    """Providers that refuse → since when."""
    named = list(marks)
    believed = refused.believed((mark, refused.operators_key(one.provider.name)) for one, mark in named)
    return _earliest((one.provider_id, mark.since) for one, mark in named if mark in believed)


def _of_tenants(marks: Iterable[Refusal]) -> dict[int, datetime]:
    """Own keys that are refused → since when."""
    named = [(mark, refused.own_account(mark.own_key_id)) for mark in marks if mark.own_key_id is not None]
    return _earliest((mark.own_key_id, mark.since) for mark in refused.believed(named))


def _tell(account: Account) -> int:
    holder = account.holder
    if isinstance(holder, ProviderKey):
        message, people = _to_tenants(holder, account.since), super_admins(holder.organization)
    else:
        message, people = _to_operator(holder, account.since), list(User.objects.filter(is_staff=True, is_active=True))
    try:
        for person in people:
            compose(message, to=person.email).send()
    except (smtplib.SMTPException, OSError) as error:
        log.warning("refused_key_not_told", account=account.name, error=type(error).__name__)
        refused.was_not_told(account.name)
        return 0
    return len(people)


def _to_operator(provider: Provider, since: datetime) -> Message:
    return Message(
        subject=f"{provider.name} refuses the gateway's key",
        paragraphs=(
            f"Since {minute_words(since)} UTC {provider.name} answers that the key of this gateway is wrong, or may not do"
            " what is asked. Calls go to other deployments where there are any; all others fail.",
        ),
        button="See the providers",
        link=f"{settings.PUBLIC_URL}{reverse('platform:providers')}",
        notes=(ONCE,),
    )


def _to_tenants(key: ProviderKey, since: datetime) -> Message:
    page = reverse("provider_keys:list", kwargs={"org": key.organization.slug})
    return Message(
        subject=f"The provider key “{key.name}” is refused",
        paragraphs=(
            f"Since {minute_words(since)} UTC the provider answers that “{key.name}” of {key.organization} is wrong, or may"
            " not do what is asked. Calls that would be made with it fail, unless it lets the gateway's own key follow.",
        ),
        button="See the provider keys",
        link=f"{settings.PUBLIC_URL}{page}",
        notes=(ONCE,),
    )


def _earliest(moments: Iterable[tuple[int | None, datetime]]) -> dict[int, datetime]:
    found: dict[int, datetime] = {}
    for pk, moment in moments:
        if pk is not None:
            found[pk] = min(moment, found.get(pk, moment))
    return found
