"""The processes that items start on the loop are watched by the loop itself."""

from __future__ import annotations

import asyncio
import functools
import sys
from typing import Any

if sys.platform == "win32" or sys.version_info >= (3, 14):
    # No processes on a selector loop; or asyncio's own does the same.
    LoopWithChildren = asyncio.SelectorEventLoop
else:
    # The stubs leave out what is used here.
    _unix: Any = asyncio.unix_events

    class LoopWithChildren(asyncio.SelectorEventLoop):
        """A loop that asks no event loop policy who watches its children.

        Before Python 3.14 asyncio asks the policy of the process, whoever has made the loop. uvloop's has nobody, and
        another one may be attached to another loop. The method goes when Python 3.13 does.
        """

        @functools.cached_property
        def _child_watcher(self) -> Any:
            """Return what asyncio's usual policy has, made for the first process: pidfds since 3.12, else threads."""
            if sys.version_info >= (3, 12) and _unix.can_use_pidfd():
                return _unix.PidfdChildWatcher()
            return _unix.ThreadedChildWatcher()

        async def _make_subprocess_transport(self, *args: Any, **options: Any) -> Any:
            """Start a process, as asyncio's own method of Python 3.14."""
            started = self.create_future()
            transport = _unix._UnixSubprocessTransport(self, *args, waiter=started, **options)
            ended = self._child_watcher_callback  # type: ignore[attr-defined]
            self._child_watcher.add_child_handler(transport.get_pid(), ended, transport)
            try:
                await started
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException:
                # Also the end of the item: its process, which nobody has yet, ends with it.
                transport.close()
                await asyncio.shield(transport._wait())
                raise
            return transport
