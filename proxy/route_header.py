"""`x-gatehouse-route`: where a call went, why, and where else it could have gone.

A List of RFC 9651 (Structured Fields), whose members are Tokens, or Strings where a name is no Token:
1. the provider that answered; `reason`, `attempts` (Integer), and of a call for `auto` the model chosen (`auto`) and how much
   the request needs a strong one (`need`, a Decimal from 0 to 1);
2. the call's other deployments in the order in which they are tried: the provider; `alternative=deployment`, `model` (its
   name there), `reason`, and of those that were tried before, how it `ended`;
3. the models that `auto` did not choose, but for those that the key may not use: the model; `alternative=model`, `reason`.

At most MOST_BYTES long, whatever the names are: what does not fit is counted by the first member's `more`.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator

from proxy.auto import NOT_ALLOWED
from proxy.call import Call

MOST_BYTES = 1024
# Of one name or reason; those of ours are shorter.
MOST_NAME = 64
_ROOM_FOR_MORE = len("; more=9999")
_TOKEN = re.compile(r"[A-Za-z*][A-Za-z0-9!#$%&'*+\-.^_`|~:/]*")


def route_of(call: Call) -> str:
    provider = call.served_by.target.provider_name if call.served_by is not None else ""
    went = f"{_item(provider)}; reason={_item(call.route_reason)}; attempts={call.tries}"
    if call.decision is not None:
        went += f"; auto={_item(call.decision.model)}; need={call.decision.need}"
    elif len(call.planned.deployments) == 1:
        return went
    return _bounded(went, [*_deployments(call), *_models(call)])


def _bounded(went: str, others: list[str]) -> str:
    told: list[str] = []
    room = MOST_BYTES - len(went) - _ROOM_FOR_MORE
    for other in others:
        room -= len(other) + 2
        if room < 0:
            went += f"; more={len(others) - len(told)}"
            break
        told.append(other)
    return ", ".join([went, *told])


def _deployments(call: Call) -> Iterator[str]:
    plan = call.planned
    # What served it may be tried twice: with an own key, then with the operator's.
    ended = {attempt.deployment_id: attempt.status for attempt in call.attempts if attempt.status != "ok"}
    for deployment, reason in zip(plan.deployments, plan.reasons, strict=True):
        if deployment is not call.served_by:
            target = deployment.target
            told = f"{_item(target.provider_name)}; alternative=deployment; model={_item(target.model)}; reason={_item(reason)}"
            status = ended.get(deployment.id)
            yield told if status is None else f"{told}; ended={status}"


def _models(call: Call) -> Iterator[str]:
    for model, why in call.decision.alternatives if call.decision is not None else ():
        if why != NOT_ALLOWED:
            yield f"{_item(model)}; alternative=model; reason={_item(why)}"


@functools.lru_cache(1024)
def _item(text: str) -> str:
    """A Token where the text is one; else a String, which is ASCII: names may be anything."""
    text = text[:MOST_NAME]
    if _TOKEN.fullmatch(text):
        return text
    plain = "".join(char if " " <= char <= "~" else "?" for char in text)
    return '"' + plain.replace("\\", "\\\\").replace('"', '\\"') + '"'
