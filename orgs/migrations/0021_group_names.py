from collections.abc import Iterator
from itertools import count
from typing import Any

import structlog
from django.db import migrations, models
from django.db.models.functions import Lower

NAME_LENGTH = 120

log = structlog.get_logger(__name__)


def tell_namesakes_apart(apps: Any, schema_editor: Any) -> None:
    """Of groups in use beside each other the oldest keeps its name, the others are numbered; the log says which."""
    groups = apps.get_model("orgs", "Group").objects.using(schema_editor.connection.alias)
    in_use = groups.filter(archived_at=None).exclude(parent=None).annotate(read=Lower("name"))
    met: set[tuple[int, str]] = set()
    for group in in_use.order_by("pk"):
        here = (group.parent_id, group.read)
        if here not in met:
            met.add(here)
            continue
        beside = in_use.filter(parent=group.parent_id)
        name = next(name for name in _numbered(group.name) if not beside.filter(read=Lower(models.Value(name))).exists())
        groups.filter(pk=group.pk).update(name=name)
        log.warning("group_renamed", group=group.pk, organization=group.organization_id, before=group.name, after=name)


def _numbered(name: str) -> Iterator[str]:
    """With a number after it, cut to fit."""
    endings = (f" ({number})" for number in count(2))
    return (name[: NAME_LENGTH - len(ending)] + ending for ending in endings)


class Migration(migrations.Migration):
    dependencies = [
        ("orgs", "0020_directory_groups_custom_roles"),
    ]

    operations = [
        migrations.RunPython(tell_namesakes_apart, migrations.RunPython.noop, elidable=True),
        migrations.AddConstraint(
            model_name="group",
            constraint=models.UniqueConstraint(
                models.F("parent"),
                Lower("name"),
                condition=models.Q(("archived_at", None)),
                name="group_name_once_among_those_in_use_beside_it",
            ),
        ),
    ]
