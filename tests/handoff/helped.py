"""What runs in a helper process, and can move to an engine."""

from pathlib import Path

from django_qbwi import CancellationToken, background_work_item


@background_work_item(executor="process", hand_off="durable", name="pages")
def read(token: CancellationToken, path: str, first: int = 0) -> None:
    """Wait at a page until the process ends, and stop there."""
    for page in range(first, 5):
        if page == 2:
            Path(path).touch()
            token.wait()
        token.checkpoint(first=page + 1)
