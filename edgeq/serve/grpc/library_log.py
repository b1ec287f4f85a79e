"""What gRPC's Python layer logs -> without what only says how a client misbehaved."""

from __future__ import annotations

import logging

LOGGER = "grpc._cython.cygrpc"
# Each with a traceback, at ERROR, as often as any client likes: it hung up while its answer was
# being sent; its metadata is no text, and is quoted, be it a token.
OF_CLIENTS = ("ExecuteBatchError raised in core", "Invalid encoding on")


class ClientsFaults(logging.Filter):
    """Drops those records while it is installed."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a record is worth a line."""
        return not record.getMessage().startswith(OF_CLIENTS)

    def install(self) -> None:
        """Begin."""
        logging.getLogger(LOGGER).addFilter(self)

    def remove(self) -> None:
        """End."""
        logging.getLogger(LOGGER).removeFilter(self)
