"""What is optional: each app in here is installed by its own entry in INSTALLED_APPS."""
