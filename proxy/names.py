"""The names that an organisation gave to models: aliases and presets, and what `auto` chooses from.

Read with a caller and remembered with it, so a change counts on the next call of every worker (the organisation's epoch
changes with it). Presets and aliases of a group are for keys at or below it; of two with one name the nearest counts.
"""

from __future__ import annotations

from typing import Any

import msgspec

from gateway_project.lib import database
from orgs.access import Principal
from proxy.canonical.preset import Parameters, Preset

PRESET = "preset:"
AUTO = "auto"

NAMES_SQL = """
SELECT
    (SELECT coalesce(json_agg(json_build_array(name, model) ORDER BY level), '[]')
       FROM (SELECT a.name, a.model, g.level FROM proxy_alias a JOIN orgs_group g ON g.id = a.group_id
             WHERE a.organization_id = %(organization)s AND a.group_id = ANY(%(path)s)) AS aliases) AS aliases,
    (SELECT coalesce(json_agg(json_build_array(name, model, system_prompt, parameters) ORDER BY level), '[]')
       FROM (SELECT p.name, p.model, p.system_prompt, p.parameters, g.level
             FROM proxy_preset p JOIN orgs_group g ON g.id = p.group_id
             WHERE p.organization_id = %(organization)s AND p.group_id = ANY(%(path)s) AND p.archived_at IS NULL)
             AS presets) AS presets,
    (SELECT json_build_array(auto_candidates, baseline_model)
       FROM proxy_routingchoice WHERE organization_id = %(organization)s) AS choice
"""


class Names(msgspec.Struct, frozen=True):
    """By name in lower case. `candidates`: of `auto`, weakest first; empty: any. `baseline`: against which savings are told."""

    aliases: dict[str, str] = {}
    presets: dict[str, Preset] = {}
    candidates: tuple[str, ...] = ()
    baseline: str = ""


async def of(principal: Principal) -> Names:
    """Raises DatabaseUnavailable."""
    (row,) = await database.rows(NAMES_SQL, parameters(principal))
    return from_row(row)


def parameters(principal: Principal) -> dict[str, Any]:
    """Of NAMES_SQL."""
    return {"organization": principal.organization_id, "path": [node.id for node in principal.path]}


def from_row(row: dict[str, Any]) -> Names:
    """Of the one row that NAMES_SQL gives."""
    candidates, baseline = _json(row["choice"]) or ([], "")
    return Names(
        aliases={name.lower(): model for name, model in _json(row["aliases"])},
        presets={
            name.lower(): Preset(name, model, system, msgspec.convert(parameters, Parameters))
            for name, model, system, parameters in _json(row["presets"])
        },
        candidates=tuple(candidates),
        baseline=baseline,
    )


def _json(value: Any) -> Any:
    return msgspec.json.decode(value) if isinstance(value, str) else value
