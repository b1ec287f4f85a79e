"""The Unix socket's path -> a listener, in another place while the disk of that one takes none.

A daemon must start over a read-only state folder, and the socket's file lies in it by default.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import tempfile
from pathlib import Path

from edgeq import files
from edgeq.daemon.faults import kind_of
from edgeq.errors import EdgeqError
from edgeq.serve.listening import Listener, UnixAddress

_PREFIX = "edgeq-socket-"


class SpareUnixAddress(UnixAddress):
    """Where a socket file goes; in a folder of its own in memory where the disk refuses it."""

    def bind(self) -> socket.socket:
        """Listen here, or there; EdgeqError as `UnixAddress.bind`."""
        try:
            return super().bind()
        except EdgeqError as error:
            if kind_of(error) not in ("disk_full", "read_only", "io_error"):
                raise
            for folder in files.spare_folders():
                with contextlib.suppress(OSError):
                    spare = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=folder))
                    spare.chmod(0o750)
                    return UnixAddress(self.name, spare / self.path.name).bind()
            raise


def link_spare(listener: Listener) -> None:
    """Let clients find a listener that is elsewhere, as soon as its own place takes a link."""
    spare = _spare_of(listener)
    if spare is not None and isinstance(listener.address, UnixAddress):
        with contextlib.suppress(OSError):
            if _is_free(listener.address.path):
                listener.address.path.unlink(missing_ok=True)
                os.symlink(spare, listener.address.path)


def remove_spare(listener: Listener) -> None:
    """Remove what `link_spare` left, and the folder that the socket was in."""
    spare = _spare_of(listener)
    if spare is not None and isinstance(listener.address, UnixAddress):
        with contextlib.suppress(OSError):
            if os.readlink(listener.address.path) == str(spare):
                listener.address.path.unlink()
        shutil.rmtree(spare.parent, ignore_errors=True)


def _is_free(path: Path) -> bool:
    """True where nothing is, or what a daemon that died left: nobody answers there."""
    if not path.exists():
        return True
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asked:
        try:
            asked.connect(str(path))
        except ConnectionRefusedError:
            return True
    return False


def _spare_of(listener: Listener) -> Path | None:
    bound = Path(str(listener.socket.getsockname()))
    return bound if bound.parent.name.startswith(_PREFIX) else None
