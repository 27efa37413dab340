"""An empty database gets the tables of the last migration at once, in one transaction.

Applied one by one, migrations build all models anew between any two of their steps: nine tenths of five CPU-seconds, for tables
that hold nothing. What a database is in the end follows from the models as the last migration leaves them, and from the SQL and
functions that migrations run beside them; those that are `elidable` only carry over what earlier versions wrote.

Left to Django, one by one: a database that has a table, and migrations with a step of which that cannot be said.
tests/gateway_project/test_fresh.py holds the two ways against each other: tables, triggers, functions and rows are the same.
"""

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations import Migration, RunPython, RunSQL
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.operations.fields import FieldOperation
from django.db.migrations.operations.models import IndexOperation, ModelOperation

IN_THE_MODELS = (ModelOperation, FieldOperation, IndexOperation)
BESIDE_THEM = (RunSQL, RunPython)


def fill(connection: BaseDatabaseWrapper) -> bool:
    """Whether it did: then every table is there, and all migrations count as applied."""
    if not _is_empty(connection):
        return False
    executor = MigrationExecutor(connection)
    plan = [migration for migration, _ in executor.migration_plan(executor.loader.graph.leaf_nodes())]
    if executor.loader.detect_conflicts() or not _is_known(plan):
        return False
    state = executor.loader.project_state()
    with connection.schema_editor() as editor:
        for model in state.apps.get_models():
            if model._meta.can_migrate(connection):
                editor.create_model(model)
        for migration in plan:
            for step in migration.operations:
                if isinstance(step, BESIDE_THEM) and not step.elidable:
                    step.database_forwards(migration.app_label, editor, state, state)
            for app, name in migration.replaces or [(migration.app_label, migration.name)]:
                executor.recorder.record_applied(app, name)
    return True


def _is_empty(connection: BaseDatabaseWrapper) -> bool:
    with connection.cursor() as cursor:
        return not connection.introspection.table_names(cursor)


def _is_known(plan: list[Migration]) -> bool:
    return all(isinstance(step, IN_THE_MODELS + BESIDE_THEM) for migration in plan for step in migration.operations)
