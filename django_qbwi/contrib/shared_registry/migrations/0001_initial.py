"""Make the one table."""

from django.db import migrations, models


class Migration(migrations.Migration):
    """A row for each process of each host."""

    initial = True
    dependencies = []
    operations = [
        migrations.CreateModel(
            name="HostedProcess",
            fields=[
                (
                    "key",
                    models.CharField(
                        help_text="A number that is used once.", max_length=32, primary_key=True, serialize=False
                    ),
                ),
                ("site", models.CharField(help_text="The site, as the channel names it.", max_length=16)),
                ("host", models.CharField(max_length=255)),
                ("pid", models.BigIntegerField()),
                (
                    "place",
                    models.CharField(
                        blank=True, help_text="Equal for processes that can ask each other.", max_length=32
                    ),
                ),
                ("state", models.TextField(help_text="What the process answers over the channel.")),
                (
                    "cancel_requests",
                    models.TextField(blank=True, help_text="Pairs of the id of an item and who wants it cancelled."),
                ),
                ("seen_at", models.DateTimeField()),
            ],
            options={"verbose_name": "process", "verbose_name_plural": "processes", "default_permissions": ()},
        ),
    ]
