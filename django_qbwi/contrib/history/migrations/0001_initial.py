"""Make the one table."""

from django.db import migrations, models


class Migration(migrations.Migration):
    """A row for each item that ended badly, or moved."""

    initial = True
    dependencies = []
    operations = [
        migrations.CreateModel(
            name="HistoryEntry",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("item_id", models.CharField(max_length=64, unique=True, verbose_name="id")),
                ("name", models.CharField(max_length=200, verbose_name="name")),
                ("status", models.CharField(max_length=16, verbose_name="status")),
                ("finished_at", models.DateTimeField(db_index=True, verbose_name="ended")),
                ("error_type", models.CharField(blank=True, max_length=500, verbose_name="error")),
                (
                    "message",
                    models.TextField(
                        blank=True, help_text="What the error said, or why it did not run here.", verbose_name="message"
                    ),
                ),
                (
                    "traceback",
                    models.TextField(
                        blank=True, help_text="Or where it was, of one that still ran.", verbose_name="traceback"
                    ),
                ),
                ("origin", models.TextField(blank=True, verbose_name="origin")),
                ("request_id", models.CharField(blank=True, max_length=200, verbose_name="request id")),
                ("host", models.CharField(max_length=255, verbose_name="host")),
                ("pid", models.BigIntegerField(verbose_name="process")),
                ("details", models.TextField(verbose_name="details")),
            ],
            options={
                "verbose_name": "ended work item",
                "verbose_name_plural": "history of work items",
                "ordering": ("-finished_at", "-pk"),
                "default_permissions": ("view",),
            },
        ),
    ]
