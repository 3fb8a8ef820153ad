"""Make the one table."""

from django.db import migrations, models


class Migration(migrations.Migration):
    """A row for each schedule of the site."""

    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="ScheduleState",
            fields=[
                ("name", models.CharField(max_length=200, primary_key=True, serialize=False)),
                (
                    "when",
                    models.CharField(help_text="What the code said when the next tick was reckoned.", max_length=200),
                ),
                ("next_ms", models.BigIntegerField(help_text="When it is due.")),
                (
                    "claim",
                    models.CharField(
                        blank=True, help_text="A number of its last run that is used once.", max_length=32
                    ),
                ),
                ("tick_ms", models.BigIntegerField(help_text="When that run was due.", null=True)),
                ("started_ms", models.BigIntegerField(null=True)),
                ("ended_ms", models.BigIntegerField(null=True)),
                ("status", models.CharField(blank=True, max_length=16)),
                ("item", models.CharField(blank=True, help_text="The id of that run's work item.", max_length=64)),
                ("place", models.CharField(blank=True, help_text="Host and pid of that run.", max_length=300)),
                (
                    "busy_until_ms",
                    models.BigIntegerField(default=0, help_text="Until then the last run is not taken for lost."),
                ),
                (
                    "skipped",
                    models.BigIntegerField(default=0, help_text="Ticks that were left out, since a run was not over."),
                ),
            ],
            options={
                "verbose_name": "schedule",
                "verbose_name_plural": "schedules",
                "default_permissions": ("view",),
            },
        ),
    ]
