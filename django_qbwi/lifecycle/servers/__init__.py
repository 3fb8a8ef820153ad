"""Which server hosts this process: its own stop limit, its heartbeat, its stop flag, and how its process dies.

All of it was observed on the real servers.
"""

from django_qbwi.lifecycle.servers.eventlet import refusal_of_threads
from django_qbwi.lifecycle.servers.granian import GranianHost
from django_qbwi.lifecycle.servers.gunicorn import GunicornHost, GunicornMasterHost
from django_qbwi.lifecycle.servers.host import (
    CommandHost,
    HypercornHost,
    ServedHost,
    ServerHost,
    UvicornHost,
    WaitressHost,
)
from django_qbwi.lifecycle.servers.mod_wsgi import ModWsgiHost
from django_qbwi.lifecycle.servers.queues import BilliardChildHost, CeleryChildHost, RqHorseHost, by_stack
from django_qbwi.lifecycle.servers.recognition import (
    after_first_request,
    from_handler_owner,
    identify,
    is_hung_by_itself,
    is_management_command,
    is_raised_again,
    knows_more,
    recognise,
    recognise_on_loop,
    resumes_calls,
    speaks_lifespan,
    test_run,
)
from django_qbwi.lifecycle.servers.runserver import (
    RunserverHost,
    RunserverParentHost,
    WerkzeugHost,
    tell_the_parent,
)
from django_qbwi.lifecycle.servers.test_run import TestHost
from django_qbwi.lifecycle.servers.uwsgi import UwsgiHost

__all__ = [
    "BilliardChildHost",
    "CeleryChildHost",
    "CommandHost",
    "GranianHost",
    "GunicornHost",
    "GunicornMasterHost",
    "HypercornHost",
    "ModWsgiHost",
    "RqHorseHost",
    "RunserverHost",
    "RunserverParentHost",
    "ServedHost",
    "ServerHost",
    "TestHost",
    "UvicornHost",
    "UwsgiHost",
    "WaitressHost",
    "WerkzeugHost",
    "after_first_request",
    "by_stack",
    "from_handler_owner",
    "identify",
    "is_hung_by_itself",
    "is_management_command",
    "is_raised_again",
    "knows_more",
    "recognise",
    "recognise_on_loop",
    "refusal_of_threads",
    "resumes_calls",
    "speaks_lifespan",
    "tell_the_parent",
    "test_run",
]
