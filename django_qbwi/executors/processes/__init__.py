"""Helper processes: items with `executor="process"` run there, beside the requests of the server and not in their way.

A helper is a program of our own, never a fork of the server and never its `__main__`. Each is owned by one worker
thread of the server's process, its proxy, which takes items from the lane as any other worker does: statuses, records,
signals, timeouts, attempts and the drain are those of every item.

It ignores SIGTERM but its parent's: systemd sends that to all processes of a service at once, whose items have time.

States of a helper: STARTING (Django is set up) -> IDLE <-> BUSY with one item -> ENDING (it was told to, or it was
sent a signal) -> GONE (its exit status is known).

Order of events of one item: the proxy has a helper that is ready, and only then takes the item, so that no second of
its timeout is spent on a start; it sends the call, then registers with the token; it receives progress, records and
checkpoints until the end comes, or the exit of the helper; then the item ends in the proxy's thread as any other.

Locks: `Helper._lock` guards that no signal is sent to a pid which was waited for already. Nothing else has one: a frame
that several threads may send at a time is below PIPE_BUF bytes, so that the system writes it in one piece, and the
large one of a call is written before anybody else knows of the helper's item. Which worker has which helper is guarded
by the lock of the scheduler.

Three ways in which this could fail, and what stands against each:
- A helper outlives its parent, which was killed, while it burns in C code and holds the interpreter: it has the one end
  of a pipe that nobody writes to, and the kernel kills it when the other end is gone. Where it cannot (not Linux), a
  thread of the helper sees the end of the pipe. PR_SET_PDEATHSIG would fire when the thread ends that has spawned it.
- A helper dies, and a child that its item has forked keeps the pipe open: the end of the pipe is not the truth about
  its death, but a thread that waits for the pid is.
- An item ends by itself in the moment in which its helper is killed for it: whatever arrives first in the proxy's
  thread decides, and that thread alone.
"""
