"""The demo's history, written while the demo is called: no counter misses a call."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from typing import Any

import httpx
from django.core.management import call_command
from django.db.models import Sum

from billing import buckets
from billing.models import UsageRecord
from gateway_project.demo import history, organization
from gateway_project.lib import redis
from guardrails import counters
from orgs.models import Organization
from tests.gateways import Gateway
from tests.guardrails.books import announced
from tests.house import eventually


class Caller(threading.Thread):
    """Calls and calls until it is told to stop; what it paid stands in `answers`."""

    def __init__(self, gateway: Gateway, key: str) -> None:
        super().__init__(daemon=True)
        self.url, self.key = f"{gateway.url}/v1/chat/completions", key
        self.stopping = threading.Event()
        self.answers: list[httpx.Response] = []

    def run(self) -> None:
        while not self.stopping.is_set():
            self.call()

    def call(self) -> None:
        body = {"model": "sandbox-instant", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 20}
        headers = {"authorization": f"Bearer {self.key}"}
        self.answers.append(httpx.post(self.url, json=body, headers=headers, timeout=30, trust_env=False))


def wrong_counters(organization: Organization) -> list[str]:
    """Figures in Redis that are not the ledger's."""
    prefix = counters.counter(organization.pk, announced(organization.pk), "")
    wrong = []
    for name in redis.client().scan_iter(match=f"{prefix}*", count=1000):
        subject = name.decode().removeprefix(prefix)
        found: dict[Any, Any] = redis.client().hgetall(name)
        figures = {field.decode(): value.decode() for field, value in found.items()}
        starts = [int(field[2:]) for field in figures if field.startswith("b:")]
        moments = {datetime.fromtimestamp(start / 1000, tz=UTC): start for start in starts}
        sums = buckets.spend_sums(organization.pk, subjects=[subject], starts=moments)
        expected = {f"b:{moments[moment]}": spend.charged for (_, moment), spend in sums.before.items()}
        expected |= {"spent": sums.lifetime[subject].charged, "held": 0}
        wrong += [f"{subject} {field}" for field, figure in expected.items() if int(figures[field]) != figure]
    return wrong


def test_counters_are_right_after_it_whatever_was_called_meanwhile(lasting_demo: dict[str, Any], gateway: Gateway) -> None:
    found = organization.find()
    assert found is not None
    caller = Caller(gateway, lasting_demo["api_key"])
    caller.call()
    caller.start()
    call_command("demo", "--history", "--days", "30", "--calls", "1500")
    caller.stopping.set()
    caller.join()
    caller.call()
    assert [answer.status_code for answer in caller.answers] == [200] * len(caller.answers)
    assert len(caller.answers) > 5
    eventually(lambda: not wrong_counters(found))
    assert wrong_counters(found) == []
    spent = int(redis.client().hget(counters.counter(found.pk, announced(found.pk), "org"), "spent") or 0)
    assert spent == UsageRecord.objects.filter(organization=found).aggregate(total=Sum("charged_nano_usd"))["total"]
    assert spent > history.rows_of(found).aggregate(total=Sum("charged_nano_usd"))["total"] > 0
