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
    taken: set[tuple[int, str]] = set(in_use.values_list("parent_id", "read"))
    met: set[tuple[int, str]] = set()
    for group in in_use.order_by("pk"):
        here = (group.parent_id, group.read)
        if here not in met:
            met.add(here)
            continue
        name, read = _free(group, taken)
        taken.add((group.parent_id, read))
        groups.filter(pk=group.pk).update(name=name)
        log.warning("group_renamed", group=group.pk, organization=group.organization_id, before=group.name, after=name)


def _free(group: Any, taken: set[tuple[int, str]]) -> tuple[str, str]:
    """The name with a number after it, also as it is compared."""
    number = 2
    while True:
        ending = f" ({number})"
        keeps = NAME_LENGTH - len(ending)
        if (group.parent_id, group.read[:keeps] + ending) not in taken:
            return group.name[:keeps] + ending, group.read[:keeps] + ending
        number += 1


class Migration(migrations.Migration):
    dependencies = [
        ("orgs", "0020_directory_groups_custom_roles"),
    ]

    operations = [
        migrations.RunPython(tell_namesakes_apart, migrations.RunPython.noop),
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
