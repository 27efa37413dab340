"""Aliases and presets: made, changed and taken away at a group; audited, and in force from the next call on."""

from __future__ import annotations

import re
from typing import NamedTuple

import msgspec
from django.utils import timezone

from orgs.actor import Actor
from orgs.audit import Value, audit
from orgs.errors import Refused
from orgs.models import Group
from orgs.permissions import Permission
from orgs.services.changes import changing, fresh_group, refuse_archived
from proxy import targets
from proxy.canonical.preset import Parameters
from proxy.models import Alias, Model, Preset

ALIAS_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/-]{0,79}")
PRESET_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,59}")
MOST_PROMPT = 20_000
MOST_DESCRIPTION = 200
MOST_OUTPUT_TOKENS = 1_000_000
MOST_TEMPERATURE = 2.0
MOST_STOPS, MOST_STOP_LENGTH = 4, 100
EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh")


class PresetWords(NamedTuple):
    """What a preset says besides its name, which stays: programs call it."""

    model: str
    description: str = ""
    system_prompt: str = ""
    parameters: Parameters = Parameters()


# --- aliases -----------------------------------------------------------------------------------
def create_alias(group: Group, *, name: str, model: str, by: Actor) -> Alias:
    """Raises Refused, NotAllowed."""
    with changing(by.organization):
        group = _home(group, by=by)
        name = name.strip()
        if not ALIAS_NAME.fullmatch(name):
            raise Refused("A name has letters, digits and - _ . : / and begins with a letter or digit; at most 80.", field="name")
        if why := targets.reserved(name):
            raise Refused(why, field="name")
        if Alias.objects.filter(group=group, name__iexact=name).exists():
            raise Refused(f"{group} has an alias {name} already.", field="name")
        target = _target(model, own=name, group=group)
        made = Alias.objects.create(organization=by.organization, group=group, name=name, model=target, created_by=by.user)
        audit("alias.created", by=by, target=made, after=_alias_facts(made))
    return made


def change_alias(alias: Alias, *, model: str, by: Actor) -> None:
    """Raises Refused, NotAllowed."""
    with changing(by.organization):
        fresh = _fresh_alias(alias, by=by)
        before = _alias_facts(fresh)
        fresh.model = _target(model, own=fresh.name, group=fresh.group)
        if _alias_facts(fresh) != before:
            fresh.save(update_fields=["model"])
            audit("alias.changed", by=by, target=fresh, before=before, after=_alias_facts(fresh))


def delete_alias(alias: Alias, *, by: Actor) -> None:
    """Raises Refused, NotAllowed."""
    with changing(by.organization):
        fresh = _fresh_alias(alias, by=by)
        audit("alias.deleted", by=by, target=fresh, before=_alias_facts(fresh))
        fresh.delete()


def _fresh_alias(alias: Alias, *, by: Actor) -> Alias:
    fresh = Alias.objects.filter(pk=alias.pk, organization=by.organization).select_related("group").first()
    if fresh is None:
        raise Refused("This alias is gone.")
    by.require(Permission.MANAGE_ROUTING, fresh_group(fresh.group))
    return fresh


def _target(model: str, *, own: str, group: Group) -> str:
    """What an alias stands for. Not another alias: whoever changes that one would not know."""
    model = model.strip()
    found = targets.leaning(model) or targets.model_named(model)
    if found is not None:
        return found
    if model.lower() == own.lower() or targets.alias_named(model, group=group):
        raise Refused(f"“{model[:80]}” is an alias itself: name the model.", field="model")
    raise Refused(f"“{model[:80]}” is not offered here.", field="model")


def _alias_facts(alias: Alias) -> dict[str, Value]:
    return {"group": str(alias.group), "name": alias.name, "model": alias.model}


# --- presets -----------------------------------------------------------------------------------
def create_preset(group: Group, *, name: str, words: PresetWords, by: Actor) -> Preset:
    """Raises Refused, NotAllowed."""
    with changing(by.organization):
        group = _home(group, by=by)
        name = name.strip()
        if not PRESET_NAME.fullmatch(name):
            raise Refused("A name has letters, digits, - and _ and begins with a letter or digit; at most 60.", field="name")
        _refuse_taken(group, name)
        made = Preset(organization=by.organization, group=group, name=name, created_by=by.user)
        _write(made, words)
        made.save()
        audit("preset.created", by=by, target=made, after=_preset_facts(made))
    return made


def change_preset(preset: Preset, *, words: PresetWords, by: Actor) -> None:
    """Raises Refused, NotAllowed."""
    with changing(by.organization):
        fresh = _fresh_preset(preset, by=by)
        if fresh.archived_at:
            raise Refused("This preset is archived.")
        before = _preset_facts(fresh)
        _write(fresh, words)
        if _preset_facts(fresh) != before:
            fresh.save()
            audit("preset.changed", by=by, target=fresh, before=before, after=_preset_facts(fresh))


def archive_preset(preset: Preset, *, by: Actor) -> None:
    """Calls that name it are refused from now on; its usage stays. Raises Refused, NotAllowed."""
    with changing(by.organization):
        fresh = _fresh_preset(preset, by=by)
        if fresh.archived_at is None:
            fresh.archived_at = timezone.now()
            fresh.save(update_fields=["archived_at"])
            audit("preset.archived", by=by, target=fresh)


def restore_preset(preset: Preset, *, by: Actor) -> None:
    """Raises Refused where another took its name meanwhile; NotAllowed."""
    with changing(by.organization):
        fresh = _fresh_preset(preset, by=by)
        if fresh.archived_at is not None:
            refuse_archived(fresh.group)
            _refuse_taken(fresh.group, fresh.name)
            fresh.archived_at = None
            fresh.save(update_fields=["archived_at"])
            audit("preset.restored", by=by, target=fresh)


def _fresh_preset(preset: Preset, *, by: Actor) -> Preset:
    fresh = Preset.objects.filter(pk=preset.pk, organization=by.organization).select_related("group").first()
    if fresh is None:
        raise Refused("This preset is gone.")
    by.require(Permission.MANAGE_ROUTING, fresh_group(fresh.group))
    return fresh


def _refuse_taken(group: Group, name: str) -> None:
    if Preset.objects.filter(group=group, name__iexact=name, archived_at=None).exists():
        raise Refused(f"{group} has a preset {name} already.", field="name")


def _write(preset: Preset, words: PresetWords) -> None:
    model = words.model.strip()
    group = preset.group
    found = targets.leaning(model) or targets.alias_named(model, group=group) or targets.model_named(model, kind=Model.Kind.CHAT)
    if found is None:
        raise Refused(f"“{model[:80]}” is no chat model that is offered here, and no alias of {group}.", field="model")
    preset.model = found
    preset.description = _text(words.description, MOST_DESCRIPTION, field="description")
    preset.system_prompt = _text(words.system_prompt, MOST_PROMPT, field="system_prompt")
    preset.parameters = msgspec.to_builtins(_checked(words.parameters))


def _text(text: str, most: int, *, field: str) -> str:
    text = text.replace("\r\n", "\n").strip()
    if len(text) > most:
        raise Refused(f"At most {most:,} characters.", field=field)
    if "\x00" in text:
        raise Refused("It holds a character that cannot be stored.", field=field)
    return text


def _checked(parameters: Parameters) -> Parameters:
    """Raises Refused for what no provider takes."""
    temperature, top_p, most = parameters.temperature, parameters.top_p, parameters.max_tokens
    if temperature is not None and not 0 <= temperature <= MOST_TEMPERATURE:
        raise Refused("From 0 to 2.", field="temperature")
    if top_p is not None and not 0 < top_p <= 1:
        raise Refused("More than 0, at most 1.", field="top_p")
    if most is not None and not 1 <= most <= MOST_OUTPUT_TOKENS:
        raise Refused(f"From 1 to {MOST_OUTPUT_TOKENS:,}.", field="max_tokens")
    if parameters.reasoning_effort not in (None, *EFFORTS):
        raise Refused(f"One of {', '.join(EFFORTS)}.", field="reasoning_effort")
    if len(parameters.stop) > MOST_STOPS or not all(0 < len(_plain(stop)) <= MOST_STOP_LENGTH for stop in parameters.stop):
        raise Refused(f"At most {MOST_STOPS}, of {MOST_STOP_LENGTH} characters each.", field="stop")
    return parameters


def _plain(stop: str) -> str:
    return "" if "\x00" in stop else stop


def _preset_facts(preset: Preset) -> dict[str, Value]:
    return {
        "group": str(preset.group),
        "name": preset.name,
        "description": preset.description,
        "model": preset.model,
        "system_prompt": preset.system_prompt,
        "parameters": msgspec.json.encode(preset.parameters, order="sorted").decode(),
    }


# --- both --------------------------------------------------------------------------------------
def _home(group: Group, *, by: Actor) -> Group:
    group = fresh_group(group)
    by.require(Permission.MANAGE_ROUTING, group)
    refuse_archived(group)
    return group
