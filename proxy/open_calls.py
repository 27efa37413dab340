"""Calls that wait for a provider, and how one of them is cut: all of them are when this process stops."""

from __future__ import annotations

from typing import Self

from gateway_project.lib.ending import ending
from gateway_project.lib.loops import PerLoop
from gateway_project.lib.patience import Patience
from proxy.call import Call
from proxy.errors import GatewayStopping, ProxyError


class OpenCall:
    """`with OpenCall(call) as opened: …`: while the block runs, the end of this process cuts the call, and `call.cut` says so.

    `waiting` bounds the present wait for the provider; None while the caller is waited for.
    """

    def __init__(self, call: Call) -> None:
        self.call = call
        self.waiting: Patience | None = None

    def __enter__(self) -> Self:
        self._all = _open()
        self._all.add(self)
        if ending.is_cut:
            self.cut(GatewayStopping())
        return self

    def __exit__(self, *_: object) -> None:
        self._all.discard(self)

    def cut(self, error: ProxyError) -> None:
        self.call.cut = self.call.cut or error
        if self.waiting is not None:
            self.waiting.end()

    def refuse_if_cut(self) -> None:
        """Raises what has cut the call: before a provider is asked for nothing."""
        if self.call.cut is not None:
            raise self.call.cut


_open: PerLoop[set[OpenCall]] = PerLoop(set)


@ending.on_cut
def _cut_all() -> int:
    """Those whose answer has arrived and is being recorded are not among them: they are given out."""
    calls = list(_open())
    for opened in calls:
        opened.cut(GatewayStopping())
    return len(calls)
