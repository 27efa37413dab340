"""The Celery application. Workers and beat: `celery -A gateway_project worker -B`."""

import os
import signal

from celery import Celery
from celery.signals import beat_embedded_init, beat_init, setup_logging, worker_init

from gateway_project.embedded.child import end_with_parent
from gateway_project.lib import garbage

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gateway_project.settings")

app = Celery("gateway_project")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@setup_logging.connect
def keep_our_logging(**_: object) -> None:
    """Celery would replace the log format otherwise; settings have configured it already."""


@beat_embedded_init.connect
def end_with_worker(**_: object) -> None:
    """Beat is a process of the worker's own. Were that killed, it would go on and queue every task beside the next one."""
    end_with_parent(signal.SIGTERM)


@worker_init.connect
@beat_init.connect
def search_garbage_seldom(**_: object) -> None:
    """All code is loaded by now, and nothing is forked yet."""
    garbage.search_seldom()
    garbage.leave_what_is_loaded()


@worker_init.connect
@beat_init.connect
def wait_for_broker(**_: object) -> None:
    """No person waits for what these hand over, and a daily task must not be lost to a broker that is started again."""
    app.conf.broker_transport_options = {}


@app.on_after_configure.connect
def keep_heartbeats(**_: object) -> None:
    """Its signals note what is queued and done: for the operator's page."""
    import gateway_project.background  # noqa: F401
