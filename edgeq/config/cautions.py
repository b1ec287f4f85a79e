"""A valid configuration -> what its owner should know: open doors, secrets that are none."""

from __future__ import annotations

from collections.abc import Iterator

from edgeq import files
from edgeq.config.schema import Config
from edgeq.config.server import Server
from edgeq.config.web_config import read_web_config
from edgeq.errors import ConfigError
from edgeq.serve.loopback import is_loopback_host
from edgeq.tls import TlsOptions, objections


def cautions(config: Config) -> tuple[str, ...]:
    """Return one sentence for each; files that cannot be used are told, too, and raise nothing."""
    server = config.server
    return (
        *_of_the_token(server),
        *_of_tls(server.tls.options),
        *_of_metrics(server),
        *_of_folders(config),
    )


def _of_the_token(server: Server) -> Iterator[str]:
    path = server.auth.token_file
    if path is None:
        return
    if files.is_readable_by_all(path):
        yield f"{path} is a token that every user may read; chmod 600 it"
    if server.is_exposed and server.tls.options is None:
        yield (
            f"server.host {server.host!r} is reached without TLS: the token travels in the clear; "
            "set server.tls, unless something before it encrypts"
        )
    try:
        server.auth.read_token()
    except ConfigError as error:
        yield error.message


def _of_folders(config: Config) -> Iterator[str]:
    """What every user of this box may read of samples, or change of what is served."""
    state, models = files.rights_of_all(config.state_dir), files.rights_of_all(config.models_dir)
    if "w" in state:
        yield f"every user may change what is in {config.state_dir}; chmod 700 it"
    elif state:
        yield f"every user may look at the samples in {config.state_dir}; chmod 700 it"
    if "w" in models and not config.security.public_keys:
        yield (
            f"every user may drop models into {config.models_dir}; chmod o-w it, or set "
            "security.public_keys"
        )


def _of_tls(options: TlsOptions | None) -> tuple[str, ...]:
    try:
        return objections(options) if options is not None else ()
    except ConfigError as error:
        return (error.message,)


def _of_metrics(server: Server) -> Iterator[str]:
    path, host = server.metrics_web_config, server.metrics_address
    is_exposed = not is_loopback_host(host)
    if path is None:
        if is_exposed:
            yield (
                f"everyone who reaches {host!r} may read /metrics; "
                "set server.metrics_web_config or server.metrics_host"
            )
        return
    try:
        access = read_web_config(path)
    except ConfigError as error:
        yield error.message
        return
    if is_exposed and access.users and access.tls is None:
        yield f"{path} has users without TLS: their passwords travel in the clear"
    yield from _of_tls(access.tls)
