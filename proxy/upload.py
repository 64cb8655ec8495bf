"""Copies finished segments to an object store or another directory: `s3://`, `gs://`, `az://`, `file://`. Extra `upload`.

What has arrived is asked of the store itself, by names and sizes, so nothing has to be remembered between two starts. An object appears
whole or not at all. Credentials and endpoint are found as the store's own tools find them (for S3: AWS_ACCESS_KEY_ID, AWS_ENDPOINT, …).
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from .segments import Segment

log = logging.getLogger("bestserve")

FIRST_WAIT_S, LONGEST_WAIT_S = 5.0, 300.0
SCHEMES = ("s3://", "gs://", "az://", "file://")


class Uploader:
    """`told` hears of every file whether it has arrived."""

    def __init__(self, url: str, told: Callable[[bool], None], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._url, self._told, self._clock = url, told, clock
        self._store: Any = None
        self._there: dict[str, int] | None = None  # name -> bytes, once asked
        self._again_at = clock()
        self._wait_s = FIRST_WAIT_S

    def has(self, path: Path) -> bool:
        """Whether a file is known to have arrived."""
        return self._there is not None and self._there.get(path.name) == path.stat().st_size

    def step(self, segments: Sequence[Segment], ending: threading.Event) -> None:
        """Upload what has not arrived. After a failure nothing is tried for a while, which doubles each time; at the end, once."""
        if self._clock() < self._again_at and not ending.is_set():
            return
        try:
            self._upload(segments)
        except Exception as error:  # whatever the library of a store raises
            self._told(False)
            if self._wait_s == FIRST_WAIT_S:
                log.error("segments cannot be uploaded to %s: %s", self._url, str(error).split("\n", 1)[0])  # noqa: TRY400
            self._again_at, self._wait_s = self._clock() + self._wait_s, min(self._wait_s * 2, LONGEST_WAIT_S)
            self._there = None
        else:
            self._wait_s = FIRST_WAIT_S

    def _upload(self, segments: Sequence[Segment]) -> None:
        import obstore

        if self._store is None:
            self._store = store(self._url)
        if self._there is None:
            self._there = {row["path"]: row["size"] for rows in obstore.list(self._store) for row in rows}
        for segment in segments:
            if not self.has(segment.path):
                obstore.put(self._store, segment.path.name, segment.path)
                self._there[segment.path.name] = segment.path.stat().st_size
                self._told(True)


def store(url: str) -> Any:
    """The store that a URL names."""
    from obstore.store import from_url

    if url.startswith("file://"):
        return from_url(url, mkdir=True)
    return from_url(url, retry_config={"max_retries": 2, "retry_timeout": timedelta(seconds=20)})
