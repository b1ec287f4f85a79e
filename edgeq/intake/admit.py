"""A settled candidate -> a copy of our own that is known to load and run; or why it is refused.

The order is by cost and by danger: what needs no look into the file, then its bytes, then a pure
Python check, and only then, in a child, the runtime's C++ code.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from edgeq import files
from edgeq.errors import DropError
from edgeq.intake.child import Probe, ProbeLimits, run_probe
from edgeq.intake.content import HEAD_BYTES, recognize
from edgeq.intake.names import MODEL_SUFFIX
from edgeq.intake.signature import Signed
from edgeq.intake.watch import Candidate, Stamp

CheckSignature = Callable[[Path, str], "Signed | None"]

__all__ = ["AdmitOptions", "Admitted", "Probe", "Unchanged", "admit"]


@dataclass(frozen=True)
class AdmitOptions:
    """What a drop may be, and what the child that opens it may use."""

    max_model_bytes: int = 1 << 30
    timeout_s: float = 60.0
    memory_bytes: int = 4 << 30
    cpu_s: int = 60
    must_confine: bool = False  # take nothing where the child cannot be confined as it must be

    @property
    def limits(self) -> ProbeLimits:
        """What the child may use."""
        return ProbeLimits(self.timeout_s, self.memory_bytes, self.cpu_s, self.must_confine)


@dataclass(frozen=True)
class Admitted:
    """A drop that was taken; `path` is a copy in staging that the caller owns."""

    name: str
    path: Path
    sha256: str
    bytes: int
    probe: Probe
    signed: Signed | None = None  # None where nobody asked for a signature


@dataclass(frozen=True)
class Unchanged:
    """A drop whose bytes were tried before, whatever came of it."""

    name: str
    sha256: str
    signed: Signed | None = None


@dataclass(frozen=True)
class _Copy:
    path: Path
    sha256: str
    size: int
    head: bytes = field(repr=False)


def admit(
    candidate: Candidate,
    staging: Path,
    options: AdmitOptions,
    already_tried: Callable[[str, str], bool],
    *,
    expected_sha256: str | None = None,
    check_signature: CheckSignature = lambda path, sha256: None,
) -> Admitted | Unchanged:
    """Copy a drop into `staging` and prove that it is a model this box can run.

    Args:
        candidate: what the scanner found.
        staging: a folder of the daemon's own, on a disk with room for the drop.
        options: the limits.
        already_tried: (name, sha256) -> True where the bytes need no second look.
        expected_sha256: the digest that the sidecar gives, hex.
        check_signature: holds the copy, and its digest, against its signature; may raise DropError.

    Raises:
        DropError: stages 'name', 'settle', 'copy', 'size', 'digest', 'signature', 'magic',
            'structure', 'load', 'run', 'sandbox', 'probe'. Its `sha256` is set where the bytes
            themselves are at fault. 'settle' refuses the moment only: the next scan finds the file
            changed and reports it.
    """
    if candidate.refusal:
        raise DropError(candidate.refusal, stage="name", hint=candidate.hint)
    with _staged(candidate, staging, options.max_model_bytes) as copy:
        _check_digest(copy, expected_sha256)
        # Before the bytes are found to be known: the sidecar beside them may be another one.
        signed = check_signature(copy.path, copy.sha256)
        if already_tried(candidate.name, copy.sha256):
            copy.path.unlink()
            return Unchanged(candidate.name, copy.sha256, signed)
        try:
            _check_magic(copy)
            probe = run_probe(copy.path, options.limits)
        except DropError as error:
            raise _with_digest(error, copy.sha256) from error
        return Admitted(candidate.name, copy.path, copy.sha256, copy.size, probe, signed)


def _with_digest(error: DropError, sha256: str) -> DropError:
    if error.stage == "sandbox":  # the box is at fault: the same bytes may come again
        return error
    return DropError(error.message, stage=error.stage, hint=error.hint, sha256=sha256)


@contextlib.contextmanager
def _staged(candidate: Candidate, staging: Path, max_bytes: int) -> Iterator[_Copy]:
    """Copy the drop; the copy is removed again if the block raises."""
    target = staging / f"{candidate.name}-{os.urandom(6).hex()}{MODEL_SUFFIX}"
    try:
        yield _copy(candidate, target, max_bytes)
    except BaseException:
        target.unlink(missing_ok=True)
        raise


def _copy(candidate: Candidate, target: Path, max_bytes: int) -> _Copy:
    try:
        files.make_directory(target.parent)
        # Not following a link and not waiting for a pipe's writer, should one appear just now.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        with os.fdopen(os.open(candidate.path, flags), "rb") as source:
            status = os.fstat(source.fileno())
            _check_unchanged(candidate, status)
            _check_size(candidate, status.st_size, max_bytes)
            copied = files.copy_durably(source, target, max_bytes=max_bytes)
            _check_unchanged(candidate, os.fstat(source.fileno()))
        if copied is None:
            raise _changed(candidate)
        with target.open("rb") as file:
            return _Copy(target, *copied, file.read(HEAD_BYTES))
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP):
            raise _changed(candidate) from error
        raise DropError(
            f"{candidate.path.name!r} cannot be copied to {target.parent}: {error.strerror}",
            stage="copy",
            hint="Make the file readable for the daemon, and see that the state folder has room.",
        ) from error


def _changed(candidate: Candidate) -> DropError:
    return DropError(
        f"{candidate.path.name!r} changed while it was copied",
        stage="settle",
        hint="Write it under a hidden name first, then rename it.",
    )


def _check_unchanged(candidate: Candidate, status: os.stat_result) -> None:
    is_same = Stamp.of(status) == candidate.fingerprint.model
    if not is_same or not stat.S_ISREG(status.st_mode):
        raise _changed(candidate)


def _check_size(candidate: Candidate, size: int, max_bytes: int) -> None:
    if size > max_bytes:
        raise DropError(
            f"{candidate.path.name!r} has {size} bytes; at most {max_bytes} are taken",
            stage="size",
            hint="Use a smaller model, or raise security.max_model_bytes.",
        )


def _check_digest(copy: _Copy, expected_sha256: str | None) -> None:
    if expected_sha256 and expected_sha256.strip().lower() != copy.sha256:
        raise DropError(
            f"the file has the SHA-256 {copy.sha256}; the sidecar expects {expected_sha256}",
            stage="digest",
            hint="Copy the file again, or correct sha256 in the sidecar.",
        )


def _check_magic(copy: _Copy) -> None:
    mistake = recognize(copy.head, copy.size)
    if mistake is not None:
        raise DropError(
            f"the file is {mistake.what}",
            stage="size" if copy.size == 0 else "magic",
            hint=mistake.hint,
        )
