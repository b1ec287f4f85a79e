"""Keys and signatures as `minisign` writes them, for tests; its own format, another writer."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat


@dataclass(frozen=True)
class Signer:
    """A key pair."""

    id: bytes = b"\x01\x02\x03\x04\x05\x06\x07\x08"
    private: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)

    @property
    def public_key(self) -> str:
        public = self.private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        return base64.b64encode(b"Ed" + self.id + public).decode()

    def sign(self, content: bytes, comment: str, *, legacy: bool = False) -> bytes:
        """Return a .minisig file."""
        algorithm = b"Ed" if legacy else b"ED"
        signature = self.private.sign(content if legacy else hashlib.blake2b(content).digest())
        whole = self.private.sign(signature + comment.encode())
        packed = base64.b64encode(algorithm + self.id + signature).decode()
        return (
            f"untrusted comment: signature from a test\n{packed}\n"
            f"trusted comment: {comment}\n{base64.b64encode(whole).decode()}\n"
        ).encode()
