"""Background work: what beat sends exists, expires before it piles up, and survives a worker's death."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from gateway_project.celery import app
from tests.house import eventually

SCHEDULE: dict[str, dict[str, Any]] = settings.CELERY_BEAT_SCHEDULE
OWN_APPS = ("analytics", "billing", "guardrails", "notifications", "orgs", "proxy", "gateway_project")

# Tasks that are not periodic, with who sends them.
ON_DEMAND = {
    "proxy.tasks.simulate": "whoever starts a simulation in the console",
    "orgs.tasks.send_invitations": "whoever invites people by e-mail",
    "orgs.tasks.tell_of_domain": "a domain whose record is gone or whose proof has lapsed",
    "orgs.tasks.tell_of_key_change": "whoever rotates or deletes somebody else's API key",
    "orgs.tasks.tell_of_key": "whoever makes an API key for somebody else",
    "orgs.tasks.invite_listed": "whoever confirms a long list of people to invite",
}


@pytest.fixture(autouse=True, scope="module")
def loaded() -> None:
    """As a worker does when it starts."""
    app.loader.import_default_modules()


def own_tasks() -> set[str]:
    return {name for name in app.tasks if name.split(".")[0] in OWN_APPS}


@pytest.mark.parametrize("name", SCHEDULE)
def test_what_is_scheduled_is_a_task_that_exists(name: str) -> None:
    assert SCHEDULE[name]["task"] in app.tasks


@pytest.mark.parametrize("name", SCHEDULE)
def test_a_run_that_could_not_start_in_time_is_dropped_for_the_next(name: str) -> None:
    entry = SCHEDULE[name]
    assert 0 < entry["options"]["expires"] <= entry["schedule"]


def test_no_task_is_scheduled_twice_and_none_is_forgotten() -> None:
    scheduled = [entry["task"] for entry in SCHEDULE.values()]
    assert len(set(scheduled)) == len(scheduled)
    assert own_tasks() == {*scheduled, *ON_DEMAND}
    assert not ON_DEMAND.keys() & set(scheduled)


def test_tasks_carry_the_names_of_their_modules() -> None:
    for name in own_tasks():
        task = app.tasks[name]
        assert name == f"{task.__module__}.{task.__name__}"


def test_a_task_is_done_again_when_its_worker_dies_and_results_are_not_kept() -> None:
    assert app.conf.task_acks_late
    assert app.conf.task_reject_on_worker_lost
    assert app.conf.task_ignore_result
    assert app.conf.worker_prefetch_multiplier == 1


def test_a_task_that_hangs_is_warned_before_it_is_killed() -> None:
    assert 0 < app.conf.task_soft_time_limit < app.conf.task_time_limit
    # Redis gives a task to another worker after an hour: it must have ended by then.
    assert app.conf.task_time_limit < app.conf.broker_transport_options.get("visibility_timeout", 3600)


def test_the_settings_reach_the_application() -> None:
    assert app.conf.beat_schedule == SCHEDULE
    assert app.conf.broker_url == settings.CELERY_BROKER_URL
    assert app.conf.beat_schedule_filename.startswith(str(settings.GATEHOUSE_HOME))


def test_a_worker_keeps_our_log_format() -> None:
    from celery.signals import setup_logging

    # Celery leaves the log alone as soon as somebody listens.
    assert setup_logging.has_listeners()
    assert not app.conf.worker_hijack_root_logger


def test_the_broker_can_be_reached_and_holds_tasks() -> None:
    with app.connection_for_write() as connection:
        connection.ensure_connection(max_retries=1)
        with connection.SimpleQueue("gatehouse-test-queue") as queue:
            queue.put({"n": 1}, serializer="json")
            message = queue.get(timeout=2)
            message.ack()
            assert message.payload == {"n": 1}


# What Celery does when a worker has a beat of its own, but for the queue.
WORKER_WITH_BEAT = """
import os, time
from celery.signals import beat_embedded_init
import gateway_project.celery
if not os.fork():
    beat_embedded_init.send(None)
    print("beats", os.getpid(), flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent is gone")
def test_a_beat_ends_with_its_worker_even_if_that_is_killed() -> None:
    command = [sys.executable, "-c", WORKER_WITH_BEAT]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=settings.BASE_DIR) as worker:
        assert worker.stdout is not None
        beat = next(line.split()[1] for line in worker.stdout if line.startswith("beats"))
        assert alive(beat)
        os.kill(worker.pid, signal.SIGKILL)
    try:
        assert eventually(lambda: not alive(beat))
    finally:
        if alive(beat):
            os.kill(int(beat), signal.SIGKILL)


def alive(process: str) -> bool:
    """Not one whose end nobody has asked for yet."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
