"""A POSIX shared memory region of this process, and the requests that register it with a server."""

from __future__ import annotations

import json
import mmap
import os
from pathlib import Path

from tools.serve_bench.wire import http_request

FOLDER = Path("/dev/shm")


class Region:
    """Made here, mapped here, removed by `close`."""

    def __init__(self, size: int) -> None:
        self.name = f"edgeq-bench-{os.urandom(6).hex()}"
        self._path, self._size = FOLDER / self.name, size
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.ftruncate(descriptor, size)
            self._map = mmap.mmap(descriptor, size)
        finally:
            os.close(descriptor)

    def registration(self) -> bytes:
        body = {"key": f"/{self.name}", "offset": 0, "byte_size": self._size}
        return http_request(self._route("register"), json.dumps(body).encode())

    def unregistration(self) -> bytes:
        return http_request(self._route("unregister"))

    def write(self, content: bytes) -> None:
        self._map[: len(content)] = content

    def read(self) -> bytes:
        return self._map[:]

    def close(self) -> None:
        self._map.close()
        self._path.unlink()

    def _route(self, call: str) -> str:
        return f"/v2/systemsharedmemory/region/{self.name}/{call}"
