"""Events get their group, agent and place in a chain; those that are there are chained in the order in which they were written."""

import itertools

import django.db.models.deletion
from django.db import migrations, models
from django.db.models import Q

from orgs.chain import GENESIS, link

BATCH = 2000

# Rows are changed here once, to get their places: the guard is set aside for the length of this transaction.
OPEN = "ALTER TABLE orgs_auditevent DISABLE TRIGGER append_only"
CLOSE = "ALTER TABLE orgs_auditevent ENABLE TRIGGER append_only"

GUARD = """
CREATE TRIGGER no_truncate BEFORE TRUNCATE ON orgs_auditevent
    FOR EACH STATEMENT EXECUTE FUNCTION orgs_refuse_change();
CREATE FUNCTION orgs_only_forward() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.chain <> OLD.chain OR NEW.sequence <> OLD.sequence + 1 THEN
        RAISE EXCEPTION '% is append-only: it goes forward by one', TG_TABLE_NAME;
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER only_forward BEFORE UPDATE ON orgs_audithead
    FOR EACH ROW EXECUTE FUNCTION orgs_only_forward();
CREATE TRIGGER append_only BEFORE DELETE ON orgs_audithead
    FOR EACH ROW EXECUTE FUNCTION orgs_refuse_change();
CREATE TRIGGER no_truncate BEFORE TRUNCATE ON orgs_audithead
    FOR EACH STATEMENT EXECUTE FUNCTION orgs_refuse_change();
"""
UNGUARD = """
DROP TRIGGER no_truncate ON orgs_auditevent;
DROP TRIGGER only_forward ON orgs_audithead;
DROP TRIGGER append_only ON orgs_audithead;
DROP TRIGGER no_truncate ON orgs_audithead;
DROP FUNCTION orgs_only_forward();
"""


def chain(apps, schema_editor):
    event_model, head_model = apps.get_model("orgs", "AuditEvent"), apps.get_model("orgs", "AuditHead")
    of_group = _groups(apps)
    for organization in event_model.objects.order_by().values_list("organization", flat=True).distinct():
        events = event_model.objects.filter(organization=organization).order_by("pk").iterator(BATCH)
        place, last = 0, GENESIS
        while batch := list(itertools.islice(events, BATCH)):
            for event in batch:
                place += 1
                event.sequence, event.group_id = place, of_group(event)
                event.hash = last = link(last, _facts(event))
            event_model.objects.bulk_update(batch, ["sequence", "group", "hash"])
        head_model.objects.create(chain=organization or 0, sequence=place, hash=last)


def _groups(apps):
    """Of what an event is about: its group now. What is gone has none."""
    models_of = {
        "apikey": ("orgs", "ApiKey"),
        "membership": ("orgs", "Membership"),
        "rolegrant": ("orgs", "RoleGrant"),
        "application": ("orgs", "Application"),
    }
    found = {
        name: {str(pk): group for pk, group in apps.get_model(*path).objects.values_list("pk", "group")}
        for name, path in models_of.items()
    }
    found["group"] = {str(pk): pk for pk in apps.get_model("orgs", "Group").objects.values_list("pk", flat=True)}
    return lambda event: found.get(event.object_type, {}).get(event.object_id)


def _facts(event):
    from orgs.models import AuditEvent

    return AuditEvent.facts(event)


class Migration(migrations.Migration):
    dependencies = [("orgs", "0008_cost_centers_and_owners")]
    operations = [
        migrations.AddField(
            "auditevent",
            "group",
            models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name="+", to="orgs.group"),
        ),
        migrations.AddField(
            "auditevent", "agent", models.CharField(blank=True, default="", max_length=200), preserve_default=False
        ),
        migrations.AddField("auditevent", "sequence", models.BigIntegerField(null=True)),
        migrations.AddField("auditevent", "hash", models.CharField(default="", max_length=64), preserve_default=False),
        migrations.CreateModel(
            name="AuditHead",
            fields=[
                ("chain", models.BigIntegerField(primary_key=True, serialize=False)),
                ("sequence", models.BigIntegerField(default=0)),
                ("hash", models.CharField(default=GENESIS, max_length=64)),
            ],
        ),
        migrations.CreateModel(
            name="AuditCheck",
            fields=[
                ("chain", models.BigIntegerField(primary_key=True, serialize=False)),
                ("checked_at", models.DateTimeField()),
                ("event_count", models.BigIntegerField()),
                ("fault_count", models.IntegerField()),
                ("first_fault", models.CharField(blank=True, max_length=200)),
            ],
        ),
        # The foreign key's checks are done at once: a table with checks still to come cannot be altered.
        migrations.RunSQL("SET CONSTRAINTS ALL IMMEDIATE", migrations.RunSQL.noop, elidable=True),
        migrations.RunSQL(OPEN, migrations.RunSQL.noop, elidable=True),
        migrations.RunPython(chain, migrations.RunPython.noop, elidable=True),
        migrations.RunSQL(CLOSE, migrations.RunSQL.noop, elidable=True),
        migrations.AlterField("auditevent", "sequence", models.BigIntegerField()),
        migrations.AddConstraint(
            "auditevent", models.UniqueConstraint(fields=["organization", "sequence"], name="audit_event_has_its_place")
        ),
        migrations.AddConstraint(
            "auditevent",
            models.UniqueConstraint(
                fields=["sequence"], condition=Q(organization=None), name="audit_event_of_no_organization_has_its_place"
            ),
        ),
        migrations.RunSQL(GUARD, UNGUARD),
    ]
