"""Certificate and key files -> TLS contexts of a server or a client, and what is wrong with them.

TLS 1.2 at least. A server's context follows its files: a renewed certificate needs no restart.
"""

from __future__ import annotations

import ipaddress
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from edgeq import files
from edgeq.errors import ConfigError

ALPN = ["http/1.1"]
MAX_PEM_BYTES = 1 << 20
CERTIFICATE_MARK = b"-----BEGIN CERTIFICATE-----"
KEY_MARK = b"PRIVATE KEY-----"
EXPIRES_SOON_S = 14 * 86400.0

ClientCertificate = Literal["none", "optional", "required"]

_VERIFY: Mapping[ClientCertificate, ssl.VerifyMode] = {
    "none": ssl.CERT_NONE,
    "optional": ssl.CERT_OPTIONAL,
    "required": ssl.CERT_REQUIRED,
}


@dataclass(frozen=True)
class TlsOptions:
    """A server's files and what it asks of its clients."""

    cert_file: Path  # PEM: the certificate, then its chain
    key_file: Path  # PEM, not encrypted
    client_ca_file: Path | None = None  # None: the system's, where a certificate is asked for
    client_certificate: ClientCertificate = "none"
    minimum_version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2
    maximum_version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
    ciphers: str = ""  # of TLS 1.2, by OpenSSL's names; "": OpenSSL's choice
    prefers_own_order: bool = True  # of the ciphers, over the client's

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files that are named."""
        named = (self.cert_file, self.key_file, self.client_ca_file)
        return tuple(path for path in named if path is not None)


class ServerTls:
    """The context of a listener, which follows its files while it serves.

    They are looked at in each handshake. Files that cannot be used, as halfway through a renewal,
    leave what was loaded before in force.

    Args:
        options: the files.
        on_problem: is told once why changed files are not in force.

    Raises:
        ConfigError: names the file and what is wrong with it.
    """

    def __init__(self, options: TlsOptions, on_problem: Callable[[ConfigError], None]) -> None:
        self._options = options
        self._on_problem = on_problem
        self.reload()
        self.context = server_context(options)  # what a listener is given, once
        # Called in every handshake, with or without a server name. `load_cert_chain` on the same
        # context would do for certificates, but could neither take an authority away again nor
        # fail halfway without leaving a certificate that has no key.
        self.context.sni_callback = self._take_current

    def reload(self) -> None:
        """Let new handshakes use what the files hold now.

        Raises:
            ConfigError: they cannot be used; what was loaded before stays in force.
        """
        self._seen = self._look()  # before they are read: what changes meanwhile is seen next time
        self._current = server_context(self._options)

    def _take_current(self, handshake: Any, _name: str | None, _context: ssl.SSLContext) -> None:
        if self._look() != self._seen:
            try:
                self.reload()
            except ConfigError as error:
                self._on_problem(error)
        handshake.context = self._current

    def _look(self) -> tuple[tuple[int, ...], ...]:
        return tuple(map(files.fingerprint, self._options.paths))


def server_context(options: TlsOptions) -> ssl.SSLContext:
    """Load a server's certificate, key and client authorities.

    Raises:
        ConfigError: names the file and what is wrong with it.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = options.minimum_version
    context.maximum_version = options.maximum_version
    context.set_alpn_protocols(ALPN)
    if not options.prefers_own_order:
        context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    if options.ciphers:
        context.set_ciphers(options.ciphers)
    _load_certificate(context, options.cert_file, options.key_file)
    if options.client_ca_file is not None:
        _load_authorities(context, options.client_ca_file)
    elif options.client_certificate != "none":
        context.load_default_certs(ssl.Purpose.CLIENT_AUTH)
    context.verify_mode = _VERIFY[options.client_certificate]
    if options.client_certificate != "none":
        # A resumed session would be taken without a look at its certificate.
        context.options |= ssl.OP_NO_TICKET
        context.num_tickets = 0
    return context


def client_context(
    ca_file: Path | None, cert_file: Path | None, key_file: Path | None
) -> ssl.SSLContext:
    """Return what checks a server, by the system's authorities or those of `ca_file`.

    Raises:
        ConfigError: names the file and what is wrong with it.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(ALPN)
    if ca_file is None:
        context.load_default_certs()
    else:
        _load_authorities(context, ca_file)
    if cert_file is not None:
        _load_certificate(context, cert_file, key_file or cert_file)
    return context


def objections(options: TlsOptions) -> tuple[str, ...]:
    """Return what a person should know of files that load: expiry, other defects, permissions."""
    found = []
    if files.is_readable_by_all(options.key_file):
        found.append(f"{options.key_file} is a private key that every user may read; chmod 600 it")
    if reason := _why_refused(options):
        found.append(f"{options.cert_file} is a certificate that clients refuse: {reason}")
    return tuple(found)


def _why_refused(options: TlsOptions) -> str:
    """Have a client that trusts exactly this certificate connect, in memory."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _load_certificate(server, options.cert_file, options.key_file)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    _load_authorities(client, options.cert_file)
    try:
        certificate = _handshake(client, server)
    except ssl.SSLCertVerificationError as error:
        return error.verify_message
    except ssl.SSLError as error:
        return error.reason or str(error)
    expires = str(certificate["notAfter"])
    is_near = ssl.cert_time_to_seconds(expires) < time.time() + EXPIRES_SOON_S
    return f"from {expires} on, as it expires then" if is_near else ""


def _handshake(client: ssl.SSLContext, server: ssl.SSLContext) -> Mapping[str, Any]:
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        client.wrap_bio(to_client, to_server),
        server.wrap_bio(to_server, to_client, server_side=True),
    )
    waiting = list(ends)
    while waiting:
        for end in tuple(waiting):
            try:
                end.do_handshake()
                waiting.remove(end)
            except ssl.SSLWantReadError:
                continue  # for what the other end writes in its turn
    return ends[0].getpeercert() or {}


def names_of(certificate: Mapping[str, Any] | None) -> frozenset[str]:
    """Return the alternative names of a peer's certificate: DNS, IP, e-mail and URI."""
    entries = (certificate or {}).get("subjectAltName", ())
    return frozenset(_plain(kind, name) for kind, name in entries)


def _plain(kind: str, name: str) -> str:
    return str(ipaddress.ip_address(name.strip())) if kind == "IP Address" else name


def _load_certificate(context: ssl.SSLContext, cert_file: Path, key_file: Path) -> None:
    _require(cert_file, CERTIFICATE_MARK, "certificate")
    _require(key_file, KEY_MARK, "private key")

    def refuse() -> bytes:
        raise ConfigError(
            f"{key_file} is encrypted; a server cannot ask for its passphrase",
            hint=f"Decrypt it: openssl pkey -in {key_file} -out NEW, readable by edgeq only.",
        )

    try:
        context.load_cert_chain(cert_file, key_file, refuse)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise ConfigError(
                f"{key_file} is not the key of the certificate {cert_file}",
                hint="Name the certificate and the key that were made together.",
            ) from error
        raise ConfigError(
            f"{cert_file} and {key_file} cannot be loaded: {error.reason or error}",
            hint="Look at them: openssl x509 -noout -text -in CERTIFICATE; openssl pkey -in KEY.",
        ) from error


def _load_authorities(context: ssl.SSLContext, path: Path) -> None:
    _require(path, CERTIFICATE_MARK, "certificate of an authority")
    try:
        context.load_verify_locations(path)
    except ssl.SSLError as error:
        raise ConfigError(
            f"{path} cannot be loaded: {error.reason or error}",
            hint="Look at it: openssl x509 -noout -text -in FILE.",
        ) from error


def _require(path: Path, mark: bytes, what: str) -> None:
    """Read a file before OpenSSL does: its own errors name neither file nor reason."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_PEM_BYTES)
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read: {error.strerror}",
            hint="Check the path, and that the user edgeq runs as may read it.",
        ) from error
    if mark not in content:
        raise ConfigError(
            f"{path} holds no {what}; expected PEM text with '{mark.decode()}'",
            hint="Convert it with openssl, or name the right file.",
        )
