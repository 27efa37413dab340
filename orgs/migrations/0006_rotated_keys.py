from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("orgs", "0005_content_retention"),
    ]

    operations = [
        migrations.AddField(
            model_name="apikey",
            name="old_digest",
            field=models.BinaryField(blank=True, max_length=32, null=True, unique=True),
        ),
        migrations.AddField(
            model_name="apikey",
            name="old_last_four",
            field=models.CharField(blank=True, max_length=4),
        ),
        migrations.AddField(
            model_name="apikey",
            name="old_until",
            field=models.DateTimeField(
                blank=True, help_text="The first moment at which the old text no longer works.", null=True
            ),
        ),
    ]
