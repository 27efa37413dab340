from django.db import migrations, models
from django.db.models import Value


class Migration(migrations.Migration):
    dependencies = [
        ("billing", "0004_own_provider_keys"),
    ]

    operations = [
        migrations.AddField(
            model_name="usagerecord",
            name="units",
            field=models.JSONField(db_default=Value({}, models.JSONField()), default=dict),
        ),
    ]
