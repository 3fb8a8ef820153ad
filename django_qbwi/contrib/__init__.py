"""What is optional: apps for INSTALLED_APPS, and carriers for QBWI["CONTEXT"]; imported where they are listed."""
