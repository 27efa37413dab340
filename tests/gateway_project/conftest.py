from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest

from gateway_project.bench.stage import ROOT, Stage, _free_port, _listens
from gateway_project.embedded.child import Child


@pytest.fixture(scope="module")
def bench_stage() -> Iterator[Stage]:
    """A stage whose gateway is the provider itself: all that `measure` needs, without an installation."""
    port = _free_port()
    child = Child(
        "provider",
        argv=[sys.executable, "-m", "gateway_project.bench.upstream", str(port)],
        ready=lambda _: _listens(port),
        folder=ROOT,
        variables=dict(os.environ),
    )
    child.start(lambda _, __: None)
    child.wait_until_ready(seconds=20)
    url = f"http://127.0.0.1:{port}/v1"
    yield Stage(url, url, "key", "bench", web=child, variables={})
    child.stop()
