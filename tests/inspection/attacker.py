"""A hostile local user: binds names of a site, and does what it is told. Run as a program; imports nothing of ours.

Prints a line when all is bound, and ends when its input does. What is sent to it is printed then.
"""

import contextlib
import os
import resource
import select
import socket
import sys

site, count, what, uid, pids = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4]), sys.argv[5].split(",")
resource.setrlimit(resource.RLIMIT_NOFILE, (20_000, 20_000))
if uid:
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)

listeners = {}
for number in range(count):
    pid = pids[number % len(pids)] if pids[0] else os.getpid()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"\0qbwi-{site}-{pid}-{number:016x}")
    listener.listen(0 if what == "full" else 64)
    listener.setblocking(False)
    listeners[listener.fileno()] = listener
    if what == "full":
        filler = socket.socket(socket.AF_UNIX)
        filler.setblocking(False)
        filler.connect(listener.getsockname())
        listeners[filler.fileno()] = filler
print("bound", flush=True)

poll = select.epoll()
for fd in (*listeners, 0):
    poll.register(fd, select.EPOLLIN)
clients: dict[int, socket.socket] = {}
received = b""
while True:
    ready = [fd for fd, _ in poll.poll()]
    if 0 in ready:
        break
    for fd in ready:
        if fd in listeners and what != "full":
            client, _ = listeners[fd].accept()
            client.setblocking(False)
            clients[client.fileno()] = client
            poll.register(client.fileno(), select.EPOLLIN | select.EPOLLOUT if what == "junk" else select.EPOLLIN)
            if what == "refused":
                client.send(b"refused AAAAAAAAAAAAAAAAAAAAAA\n")
        elif fd in clients:
            try:
                data = clients[fd].recv(65536)
                received += data
            except BlockingIOError:
                data = b"."
            except OSError:
                data = b""
            try:
                if what == "junk":
                    clients[fd].send(b"x" * 65536)
            except BlockingIOError:
                pass
            except OSError:
                data = b""
            if not data:
                poll.unregister(fd)
                clients.pop(fd).close()
with contextlib.suppress(BrokenPipeError):
    print(repr(received), flush=True)
os._exit(0)  # nobody reads what is still buffered
