"""Request snapshots: what an item may know of its request, and the guard against the request itself.

Rooms, each importing only what stands above it:

- `plain`: what may be copied, and how it is written as JSON
- `masking`: which names are secret
- `snapshot`: `RequestSnapshot`
- `reading`: the default fields, from a request
- `selection`: what is copied beyond those
- `activation`: language, time zone, script prefix and URLconf while an item runs
- `copier`: `copies_request` and `snapshot_request`
- `carriers`: what else is taken along, by QBWI["CONTEXT"]
- `guard`: the refusal of a captured request
- `intake`: all of it, in the order in which a call goes through it
"""
