"""Which server hosts this process: its own stop limit, its heartbeat, its stop flag, and how its process dies.

All of it was observed on the real servers.
"""

from django_qbwi.lifecycle.servers.granian import GranianHost
from django_qbwi.lifecycle.servers.gunicorn import GunicornHost, GunicornMasterHost
from django_qbwi.lifecycle.servers.host import (
    CommandHost,
    RunserverHost,
    RunserverParentHost,
    ServedHost,
    ServerHost,
    UvicornHost,
    WaitressHost,
)
from django_qbwi.lifecycle.servers.mod_wsgi import ModWsgiHost
from django_qbwi.lifecycle.servers.recognition import (
    after_first_request,
    from_handler_owner,
    identify,
    is_management_command,
    knows_more,
    recognise,
    recognise_on_loop,
)
from django_qbwi.lifecycle.servers.uwsgi import UwsgiHost

__all__ = [
    "CommandHost",
    "GranianHost",
    "GunicornHost",
    "GunicornMasterHost",
    "ModWsgiHost",
    "RunserverHost",
    "RunserverParentHost",
    "ServedHost",
    "ServerHost",
    "UvicornHost",
    "UwsgiHost",
    "WaitressHost",
    "after_first_request",
    "from_handler_owner",
    "identify",
    "is_management_command",
    "knows_more",
    "recognise",
    "recognise_on_loop",
]
