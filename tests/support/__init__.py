"""What the unit tests are made of: a clock that stands still, executors moved by hand, runtimes without Django."""
