"""A file beside a drop, as the scanner found it -> its bytes; or why it is not to be read.

Between the scan and the reading, whoever writes to the folder may have put a pipe or a link in its
place: a pipe would hold the intake for ever, and what a link leads to would be told in the reason.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from edgeq.errors import DropError
from edgeq.intake.watch import Stamp


def read_companion(path: Path, stamp: Stamp | None, most_bytes: int) -> bytes:
    """Return the first `most_bytes` of a regular file that is still the one that was found.

    Args:
        path: with its links resolved.
        stamp: of the file as it was found; None where nobody looked.
        most_bytes: what is read at most.

    Raises:
        DropError: stage 'settle' where it is another file by now, 'sidecar' where it cannot be
            read.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        with os.fdopen(os.open(path, flags), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode) or stamp not in (None, Stamp.of(status)):
                raise _changed(path)
            return file.read(most_bytes)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP, errno.ENXIO):  # gone, a link, a socket
            raise _changed(path) from error
        raise DropError(
            f"{path.name!r} cannot be read: {error.strerror}",
            stage="sidecar",
            hint="Make the file readable for the daemon.",
        ) from error


def _changed(path: Path) -> DropError:
    return DropError(
        f"{path.name!r} changed before it was read",
        stage="settle",
        hint="Write it under a hidden name first, then rename it.",
    )
