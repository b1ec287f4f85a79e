"""Certificate and key files -> gRPC's server credentials, which follow the files."""

from __future__ import annotations

import logging
from typing import Any

import grpc

from edgeq import files
from edgeq.errors import ConfigError
from edgeq.tls import TlsOptions, server_context

logger = logging.getLogger(__name__)


class ServerCertificates:
    """Looks at the files at every handshake; those that cannot be used leave the last in force.

    Raises:
        ConfigError: the files cannot be used at the start.
    """

    def __init__(self, options: TlsOptions) -> None:
        self._options = options
        self._seen = _fingerprint(options)
        self._first = _configuration(options)

    def credentials(self) -> Any:
        """Return what a port takes."""
        is_mutual = self._options.client_ca_file is not None
        return grpc.dynamic_ssl_server_credentials(
            self._first, self._changed, require_client_authentication=is_mutual
        )

    def _changed(self) -> Any:
        """Return a new configuration, or None: called by gRPC on a thread of its own."""
        seen = _fingerprint(self._options)
        if seen == self._seen:
            return None
        self._seen = seen
        try:
            return _configuration(self._options)
        except ConfigError as error:
            logger.warning(f"{error.message}; the last certificate stays in force")
            return None


def _fingerprint(options: TlsOptions) -> tuple[tuple[int, ...], ...]:
    return tuple(files.fingerprint(path) for path in options.paths)


def _configuration(options: TlsOptions) -> Any:
    server_context(options)  # says what is wrong with the files, which gRPC does not
    authorities = options.client_ca_file
    return grpc.ssl_server_certificate_configuration(
        [(options.key_file.read_bytes(), options.cert_file.read_bytes())],
        root_certificates=None if authorities is None else authorities.read_bytes(),
    )
