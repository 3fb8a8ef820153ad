"""A site with schedules, for real servers."""
