"""What has to be known of a server, and the hosts of which nothing special is known."""

from __future__ import annotations

from collections.abc import Callable


class ServerHost:
    """A process that we know nothing special of: a server that was not recognised, or none at all."""

    name = "unknown"
    is_server = False
    is_final = False
    """Whether no later look can tell more of it."""
    watched = False
    """Whether `is_stopping` has to be asked now and then, since no signal tells."""
    exits_by_exception = True
    """Whether SystemExit in the main thread ends the process in good order, as it does where nobody serves."""
    exits_within = 1.0
    """Seconds until the exit begins after that SystemExit; if it has not then, it was lost."""
    takes_handlers = True
    """Whether signal handlers set by Python code work, and do not break the server's own."""
    has_exit_hook = False
    """Whether `on_exit` does anything."""
    exit_hook_is_last = False
    """Whether nothing runs after the server's exit hook."""
    lifespan_seconds: float | None = None
    """How long the end of an ASGI lifespan may be held; None where the server sets no limit of its own for that."""
    resets_interrupt = False
    """Whether SIGINT has its default action behind the server's handler, instead of Python's own."""
    serves = True
    """Whether items run here at all."""
    shares_its_process = False
    """Whether others live in this process, whom our end must not take along."""
    has_fork_hooks = True
    """Whether its forks run the hooks of `os.register_at_fork`."""
    quits_workers = False
    """Whether its master says SIGQUIT to workers, also when they have taken their handlers back."""

    opens_channel = True
    """Whether other processes may look into this one, and this one into others."""
    keeps_connections = True
    """Whether a database connection may live from one item to the next."""
    hints_at_tests = False
    """Whether items are told of that meet what only tests have: a transaction around them, a database in memory."""
    holds_at_exit = True
    """Whether items may be left for the exit of the interpreter, whose weaknesses are worth a warning then."""

    @property
    def answers_requests(self) -> bool:
        """Whether it is this process that answers requests, as far as it is known; a preloading master does not."""
        return self.is_server and self.serves

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    def limit(self, signum: int | None) -> float | None:
        """Seconds from the sign until the server kills this process, None if it does not; a plain read."""
        return None

    def beat(self) -> None:
        """Tell the server that the process is alive."""

    def is_stopping(self) -> bool:
        """True once the server's own flag says that this process ends."""
        return False

    def was_told_to_stop(self) -> bool:
        """True if the server's own flag says that a stop signal ended this process, which may have passed us by."""
        return False

    def on_exit(self, hold: Callable[[], None]) -> None:
        """Have the server call `hold` when it has finished its requests, where it has a hook for that."""

    def on_reload(self, changed: Callable[[], None]) -> None:
        """Have `changed` called when this process ends since a file has changed, where only the server knows of it."""

    def refusal(self) -> str | None:
        """Why no item can run here, with the cure; None where items can."""
        return None

    def warnings(self, shutdown_timeout: float) -> list[str]:
        """What an operator should know at the first item, in words that say what to change."""
        return []


class CommandHost(ServerHost):
    """A management command, a script or a shell: nobody's server."""

    name = "command"


class ServedHost(ServerHost):
    """A server that was recognised by its requests only."""

    name = "server"
    is_server = True
    exits_by_exception = False


class WaitressHost(ServerHost):
    """waitress sets no handler; SystemExit in the main thread lets it finish its requests, for five seconds."""

    name = "waitress"
    is_server = True
    exits_by_exception = True
    exits_within = 6.0


class HypercornHost(ServerHost):
    """hypercorn, which ends with an error when the end of the lifespan takes longer than 60 s."""

    name = "hypercorn"
    is_server = True
    exits_by_exception = False
    lifespan_seconds = 55.0


class UvicornHost(ServerHost):
    """uvicorn restores the handlers that it found and raises the signal again, when it has finished."""

    name = "uvicorn"
    is_server = True
    exits_by_exception = False
