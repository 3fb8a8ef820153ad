"""Run Django's tests of tasks in a folder, and print the outcome of each as one line of JSON.

`python -m tests.task_backend.django_suite FOLDER`: FOLDER holds the package `tasks`, as Django has it in `tests`.
"""

import json
import os
import sys
import unittest
from typing import Any

import django
from django.test.runner import DiscoverRunner

OUTCOMES: dict[str, str] = {}


class Result(unittest.TextTestResult):
    """Notes the outcome of each test: an empty text, or what was raised, of its sub-tests too."""

    def startTest(self, test: unittest.TestCase) -> None:  # noqa: N802
        super().startTest(test)
        OUTCOMES[test.id()] = ""

    def addFailure(self, test: unittest.TestCase, err: Any) -> None:  # noqa: N802
        OUTCOMES[test.id()] += self._exc_info_to_string(err, test)

    def addError(self, test: unittest.TestCase, err: Any) -> None:  # noqa: N802
        self.addFailure(test, err)

    def addSubTest(self, test: unittest.TestCase, subtest: unittest.TestCase, err: Any) -> None:  # noqa: N802
        if err is not None:
            self.addFailure(test, err)

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:  # noqa: N802
        OUTCOMES[test.id()] += f"skipped: {reason}"

    def addUnexpectedSuccess(self, test: unittest.TestCase) -> None:  # noqa: N802
        OUTCOMES[test.id()] += "an unexpected success"


class Runner(DiscoverRunner):
    """Django's runner, with that result."""

    def get_resultclass(self) -> type[unittest.TextTestResult]:
        """Return the class that notes outcomes."""
        return Result


def main(folder: str) -> None:
    """Run what is in `folder`."""
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.task_backend.django_suite.settings"
    sys.path.insert(0, folder)
    django.setup()
    Runner(verbosity=0, interactive=False).run_tests(["tasks"])
    print(json.dumps(OUTCOMES))


if __name__ == "__main__":
    main(sys.argv[1])
