from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("analytics", "0001_initial")]
    operations = [
        migrations.RunSQL("INSERT INTO analytics_rollupwatermark (id, transaction_id) VALUES (1, 0)", migrations.RunSQL.noop)
    ]
