"""Every counter is what the ledger says, or the difference is shown, to the nano-dollar, and put right."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from django.core.management import CommandError, call_command

from gateway_project.lib import findings, redis
from guardrails import counters
from proxy import proving, tasks
from tests.gateways import Gateway
from tests.house import MESSAGES, House, eventually
from tests.upstream import Upstream, answer, slowly


@pytest.fixture
def used(house: House, gateway: Gateway) -> House:
    """Three calls behind it, under a budget with a window."""
    house.limit("budget", 10**12, window="day")
    client = house.client(gateway.url)
    for _ in range(3):
        client.chat.completions.create(model="scripted", messages=MESSAGES, max_tokens=10)
    assert house.nothing_held()
    return house


def add(house: House, subject: str, field: str, amount: int) -> None:
    redis.client().hincrby(counters.counter(house.organization.pk, house.token, subject), field, amount)


def figures(house: House) -> list[tuple[str, str, int]]:
    return [(one.subject, one.figure, one.counted - one.expected) for one in proving.prove(house.organization).differences]


def counted(house: House, subject: str) -> dict[str, int | None]:
    found: Any = redis.client().hmget(counters.counter(house.organization.pk, house.token, subject), ["held", "live"])
    return {name: value and int(value) for name, value in zip(("held", "live"), found, strict=True)}


@contextmanager
def running(house: House, gateway: Gateway, upstream: Upstream) -> Iterator[dict[str, int]]:
    """While one call runs → what it holds, by subject. It has ended when the block has."""
    upstream.on("scripted", slowly(answer("Hello."), 2.5))
    client = house.client(gateway.url)
    call = threading.Thread(
        target=lambda: client.chat.completions.create(model="scripted", messages=MESSAGES, max_tokens=10), daemon=True
    )
    call.start()
    assert eventually(house.held)
    yield house.held()
    call.join()
    assert house.nothing_held()


def printed(*options: str) -> tuple[int, str]:
    out = io.StringIO()
    try:
        call_command("prove_counters", *options, stdout=out)
    except SystemExit as end:
        return int(str(end.code)), out.getvalue()
    return 0, out.getvalue()


def test_after_real_calls_every_counter_agrees(used: House) -> None:
    proof = proving.prove(used.organization)
    # Key, member, three groups, the organisation and its pool.
    assert (proof.counters, proof.busy, proof.differences) == (7, 0, [])


@pytest.mark.parametrize("amount", [1, -1, 10**15 + 1])
def test_a_figure_that_is_off_by_anything_is_found(used: House, amount: int) -> None:
    subject = f"m{used.world.mia.pk}"
    add(used, subject, "spent", amount)
    assert figures(used) == [(subject, "spent", amount)]


def test_a_baseline_that_is_off_is_found_with_its_moment(used: House) -> None:
    subject = f"k{used.key.pk}"
    key = counters.counter(used.organization.pk, used.token, subject)
    names: Any = redis.client().hkeys(key)
    field = next(name.decode() for name in names if name.startswith(b"b:"))
    add(used, subject, field, 7)
    (found,) = figures(used)
    assert (found[0], found[2]) == (subject, 7)
    assert found[1].startswith("before 20")


def test_money_held_by_nobody_is_found(used: House) -> None:
    add(used, "org", "held", 5)
    assert figures(used) == [("org", "held", 5)]


def test_a_running_call_is_no_difference(used: House, gateway: Gateway, upstream: Upstream) -> None:
    upstream.on("scripted", slowly(answer("Hello."), 1.5))
    client = used.client(gateway.url)
    call = threading.Thread(
        target=lambda: client.chat.completions.create(model="scripted", messages=MESSAGES, max_tokens=10), daemon=True
    )
    call.start()
    assert eventually(used.held)
    proof = proving.prove(used.organization)
    assert proof.differences == []
    assert proof.busy == 7
    call.join()


def test_the_command_prints_what_differs_and_exits_with_1(used: House) -> None:
    add(used, "org", "spent", 250_000_000)
    code, text = printed("--organization", used.organization.slug)
    assert code == 1
    (line,) = [line for line in text.splitlines() if " org " in line]
    assert line.split()[-1] == "0.25"
    assert "1 differences found" in text


def test_the_command_is_content_where_everything_agrees(used: House) -> None:
    code, text = printed("--organization", used.organization.slug)
    assert (code, text.strip()) == (0, "7 counters, 0 of them busy, 0 differences found")


def test_what_differs_is_read_from_the_ledger_anew(used: House, gateway: Gateway) -> None:
    add(used, "org", "spent", 10**15)
    assert printed("--organization", used.organization.slug, "--correct")[0] == 1
    used.client(gateway.url).chat.completions.create(model="scripted", messages=MESSAGES, max_tokens=10)
    assert used.nothing_held()
    assert figures(used) == []


def test_the_task_corrects_by_itself_and_monitors_are_told(used: House, gateway: Gateway) -> None:
    redis.client().delete(findings.NAME)
    add(used, "pool", "spent", -3)
    found = tasks.prove_counters()
    assert found >= 1
    assert figures(used) == []
    told = httpx.get(f"{gateway.url}/metrics", trust_env=False).text
    assert "\ngatehouse_counter_differences_total " in told


@pytest.mark.parametrize("amount", [5, -7, 2**53 + 1])
def test_money_held_by_nobody_is_held_no_more(used: House, gateway: Gateway, amount: int) -> None:
    add(used, "org", "held", amount)
    assert tasks.prove_counters() >= 1
    assert used.counter("org")["held"] == 0
    assert used.counter("org")["spent"] > 0, "what was spent did not differ: it stays loaded"
    assert figures(used) == []
    used.client(gateway.url).chat.completions.create(model="scripted", messages=MESSAGES, max_tokens=10)
    assert used.nothing_held()
    assert figures(used) == []


def test_what_a_running_call_holds_stays_held(used: House, gateway: Gateway, upstream: Upstream) -> None:
    used.limit("parallel", 5, window="now")
    subject = f"k{used.key.pk}"
    with running(used, gateway, upstream) as holding:
        before = counted(used, subject)
        assert before == {"held": holding[subject], "live": 1}
        add(used, subject, "held", 2**53 + 1)
        add(used, subject, "live", 3)
        found = proving.prove(used.organization).differences
        assert [(one.figure, one.counted - one.expected) for one in found] == [("held", 2**53 + 1), ("live", 3)]
        proving.correct(used.organization, found)
        assert counted(used, subject) == before
    assert counted(used, subject) == {"held": 0, "live": 0}


def test_places_taken_by_nobody_are_given_back(used: House, gateway: Gateway) -> None:
    used.limit("parallel", 1, window="now")
    subject = f"k{used.key.pk}"
    client = used.client(gateway.url)
    client.chat.completions.create(model="scripted", messages=MESSAGES, max_tokens=10)
    assert used.nothing_held()
    add(used, subject, "live", 1)
    code, text = printed("--organization", used.organization.slug, "--correct")
    assert code == 1
    (line,) = [line for line in text.splitlines() if f" {subject} " in line]
    assert line.split()[-4:] == ["live", "1", "0", "1"], "calls are no dollars"
    client.chat.completions.create(model="scripted", messages=MESSAGES, max_tokens=10)


def holding(house: House, *records: str) -> None:
    key = counters.holds(house.organization.pk, house.token)
    for number, record in enumerate(records):
        redis.client().hset(key, f"call {number}", record)


def test_holds_are_counted_to_the_nano_dollar_and_by_their_state(used: House) -> None:
    """Sums beyond what a double can tell apart; a spooled row is held and runs no longer."""
    exact = 2**53 + 1
    holding(
        used,
        f"{exact}|0|r|1|0||1,3|w|k1,m1,org|{{}}",
        f"{exact}|0|c|1|0|1|2|w|k1,org|{{}}",
        f"{exact}|0|s|1|0||2|w|k1,org|{{}}",
        "0|0|r|1|0||1|w|k1,org|{}",
        f"{exact}|0|r|1|0||1,2|w|k1,organic|{{}}",
    )
    wrong = [proving.Difference("", subject, "held", 0, 1) for subject in ("org", "m1", "pool")]
    proving.correct(used.organization, wrong)
    assert counted(used, "org") == {"held": 3 * exact, "live": 2}
    assert counted(used, "m1") == {"held": exact, "live": None}
    assert counted(used, "pool") == {"held": 0, "live": None}
    assert not [one for one in figures(used) if one[0] in ("org", "m1", "pool")]
    redis.client().delete(counters.holds(used.organization.pk, used.token))


def test_a_counter_that_is_gone_is_not_made_for_nothing(used: House) -> None:
    key = counters.counter(used.organization.pk, used.token, "m999")
    proving.correct(used.organization, [proving.Difference("", "m999", "held", 1, 0)])
    assert not redis.client().exists(key)


def test_an_organisation_without_calls_has_nothing_to_prove(house: House) -> None:
    assert proving.prove(house.organization) == proving.Proof(0, 0, [])


def test_an_unknown_organisation_is_said(db: Any) -> None:
    with pytest.raises(CommandError, match="no organisation"):
        printed("--organization", "nowhere-at-all")
