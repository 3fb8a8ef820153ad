"""A small site and its test suites, as a user has them on the first day; `test_day_one` runs them."""
