"""A drop and its minisign signature -> as what it was signed; or why it is refused.

Format: https://jedisct1.github.io/minisign/ (its section "Signature format"). A signature is made
by `minisign -Sm NAME.tflite`; the trusted comment, which the key signs too, has to say which model
it is (`file:`, that minisign writes by itself, or `model:`) and how new (`version:`, or minisign's
`timestamp:`): else an old model, or another one's, could be put in its place. `sidecar:` carries
the SHA-256 of the sidecar that belongs to it.
"""

from __future__ import annotations

import base64
import hashlib
import mmap
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeq.errors import DropError
from edgeq.intake.names import MODEL_SUFFIX, SIGNATURE_SUFFIX

SIGNATURE_BYTES = 8 << 10  # largest file: four lines, of which minisign bounds both comments
KEY_BYTES, KEY_ID_BYTES, ED25519_BYTES = 32, 8, 64
PREHASHED, LEGACY = b"ED", b"Ed"  # over the file's BLAKE2b-512, or over the file itself
TRUSTED = b"trusted comment: "
VERSION_DIGITS = 18  # fits SQLite's integers
PIECE_BYTES = 1 << 20


@dataclass(frozen=True)
class PublicKey:
    """A minisign public key."""

    id: bytes  # 8, by which a signature names its key
    ed25519: bytes  # 32

    @classmethod
    def parse(cls, text: str) -> PublicKey:
        """Read a key as `minisign -G` shows it: 56 characters that begin with RW.

        Raises:
            ValueError: it is something else.
        """
        try:
            content = _decode(text.strip().encode())
        except ValueError:
            content = b""
        if len(content) != 2 + KEY_ID_BYTES + KEY_BYTES or content[:2] != LEGACY:
            raise ValueError("expected minisign's public key: 56 characters, beginning with RW")
        return cls(content[2 : 2 + KEY_ID_BYTES], content[2 + KEY_ID_BYTES :])

    @property
    def name(self) -> str:
        """The key's ID as minisign shows it."""
        return _hex_id(self.id)


@dataclass(frozen=True)
class Signed:
    """As what a key's owner has signed a drop."""

    key: str  # its ID
    model: str
    version: int  # grows from one release to the next
    sidecar_sha256: str = ""  # hex; of the sidecar that goes with it


@dataclass(frozen=True)
class _Signature:
    algorithm: bytes
    key_id: bytes
    ed25519: bytes  # over the file
    comment: bytes  # without "trusted comment: "
    comment_ed25519: bytes  # over the signature and the comment


def verify(name: str, model: Path, signature: Path | None, keys: Sequence[PublicKey]) -> Signed:
    """Hold a drop against its signature.

    Args:
        name: what it is to be served as.
        model: the daemon's own copy, which nobody else changes.
        signature: the file in the drop folder; None where there is none.
        keys: whose signatures count.

    Raises:
        DropError: stage 'signature'; without a digest, for another signature may let it in.
    """
    if signature is None:
        raise _refused(
            f"{name}{MODEL_SUFFIX} is not signed; one of {len(keys)} public keys has to",
            f"Run `minisign -Sm {name}{MODEL_SUFFIX}` and drop the {SIGNATURE_SUFFIX} file, too.",
        )
    parsed = _parse(_read(signature))
    key = _key_of(parsed, keys)
    commented = parsed.ed25519 + parsed.comment
    # The comment first: a file of a gigabyte is read for its owner only.
    is_genuine = _is_of(key, parsed.comment_ed25519, commented) and _signs(key, parsed, model)
    if not is_genuine:
        raise _refused(
            f"the signature of key {key.name} does not fit the file",
            "Copy both files again; where the model has changed, sign it again.",
        )
    return _as_what(name, key, parsed.comment.decode("utf-8", "replace"))


def _read(path: Path) -> bytes:
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
            return file.read(SIGNATURE_BYTES + 1)
    except OSError as error:
        raise _refused(
            f"the signature {path.name!r} cannot be read: {error.strerror}",
            "Make it readable for the daemon.",
        ) from error


def _parse(content: bytes) -> _Signature:
    lines = content.splitlines()
    try:
        if len(content) > SIGNATURE_BYTES or len(lines) != 4 or not lines[2].startswith(TRUSTED):
            raise ValueError
        packed, comment_ed25519 = _decode(lines[1]), _decode(lines[3])
        if (len(packed), len(comment_ed25519)) != (2 + KEY_ID_BYTES + ED25519_BYTES, ED25519_BYTES):
            raise ValueError
    except ValueError as error:
        raise _refused(
            f"the {SIGNATURE_SUFFIX} file is not a minisign signature, or not a whole one",
            "Copy it again, or sign the model again.",
        ) from error
    algorithm, key_id, ed25519 = packed[:2], packed[2:10], packed[10:]
    return _Signature(algorithm, key_id, ed25519, lines[2][len(TRUSTED) :], comment_ed25519)


def _decode(text: bytes) -> bytes:
    content = base64.b64decode(text, validate=True)  # binascii.Error is a ValueError
    if base64.b64encode(content) != text:
        raise ValueError("base64 with bits to spare that are not 0")
    return content


def _key_of(parsed: _Signature, keys: Sequence[PublicKey]) -> PublicKey:
    if parsed.algorithm not in (PREHASHED, LEGACY):
        raise _refused(
            f"the signature has the algorithm {parsed.algorithm!r}; minisign's are ED and Ed",
            "Sign the model with minisign.",
        )
    found = next((key for key in keys if key.id == parsed.key_id), None)
    if found is None:
        known = ", ".join(key.name for key in keys)
        raise _refused(
            f"it is signed by key {_hex_id(parsed.key_id)}; those that count are {known}",
            "Sign it with one of them, or add the key to security.public_keys.",
        )
    return found


def _signs(key: PublicKey, parsed: _Signature, model: Path) -> bool:
    with model.open("rb") as file:
        if parsed.algorithm == PREHASHED:
            digest = hashlib.blake2b()
            while piece := file.read(PIECE_BYTES):
                digest.update(piece)
            return _is_of(key, parsed.ed25519, digest.digest())
        if not os.fstat(file.fileno()).st_size:  # cannot be mapped
            return _is_of(key, parsed.ed25519, b"")
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        with mapped, memoryview(mapped) as content:
            return _is_of(key, parsed.ed25519, content)


def _is_of(key: PublicKey, ed25519: bytes, content: bytes | memoryview) -> bool:
    # Here, for it takes 5 MB and 20 ms that a box without keys does not need.
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(key.ed25519).verify(ed25519, content)
    except InvalidSignature:
        return False
    return True


def _as_what(name: str, key: PublicKey, comment: str) -> Signed:
    said = dict(word.split(":", 1) for word in comment.split() if ":" in word)
    model = said.get("model") or said.get("file", "").removesuffix(MODEL_SUFFIX)
    version = said.get("version") or said.get("timestamp", "")
    if model != name:
        raise _refused(
            f"it is signed as model {model!r:.140}; it was dropped as {name!r}",
            f"Rename it, or sign it with -t 'model:{name} version:N'.",
        )
    if not (version.isascii() and version.isdigit() and len(version) <= VERSION_DIGITS):
        raise _refused(
            f"its trusted comment {comment!r:.140} has no version and no timestamp, a number",
            f"Sign it with -t 'model:{name} version:N', N growing with every release.",
        )
    return Signed(key.name, model, int(version), said.get("sidecar", "").lower())


def _hex_id(key_id: bytes) -> str:
    return f"{int.from_bytes(key_id, 'little'):X}"  # as minisign prints it, without leading zeros


def _refused(message: str, hint: str) -> DropError:
    return DropError(message, stage="signature", hint=hint)
