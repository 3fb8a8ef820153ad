#!/usr/bin/env python
"""Run Django's commands for the example site, from any folder."""

import os
import sys
from pathlib import Path


def main() -> None:
    """Run the command that the command line names."""
    # Started as a script, Python looks for modules beside this file, one folder too deep.
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "example_project.settings")

    from django.core.management import execute_from_command_line  # needs the path and the variable set above

    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
