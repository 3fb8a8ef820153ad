"""Django's own tests of tasks, run with the backend: what stands in for Django's backends there, and the program."""
