"""Log records -> one line each: text for people, JSON for machines, or the journal's fields."""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Literal

LogFormat = Literal["text", "json", "journal"]

# What a line may carry beside its message, as `logger.info("swapped", extra={"model": ...})`.
FIELDS = ("model", "version", "stage", "engine", "seconds", "reason", "hint", "outcome")

_PRIORITY = {"DEBUG": 7, "INFO": 6, "WARNING": 4, "ERROR": 3, "CRITICAL": 2}  # sd-daemon(3)


def _fields(record: logging.LogRecord) -> dict[str, object]:
    return {name: getattr(record, name) for name in FIELDS if hasattr(record, name)}


class TextFormatter(logging.Formatter):
    """`time level module message key=value ...`."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        pairs = [f"{key}={_quoted(value)}" for key, value in _fields(record).items()]
        module = record.name.removeprefix("edgeq.")
        message = record.getMessage().replace("\n", "\\n")  # text from outside forges no line
        lines = [" ".join([f"{record.levelname.lower():7s} {module}: {message}", *pairs])]
        if record.exc_info:
            lines += self.formatException(record.exc_info).splitlines()
        return self._joined(record, lines)

    def _joined(self, record: logging.LogRecord, lines: list[str]) -> str:
        return self._prefix(record) + "\n".join(lines)

    def _prefix(self, record: logging.LogRecord) -> str:
        clock = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(record.created))
        return f"{clock}.{int(record.msecs):03d} "


class JournalFormatter(TextFormatter):
    """The same line with a syslog priority for systemd's stderr; the journal has the time."""

    def _prefix(self, record: logging.LogRecord) -> str:
        return f"<{_PRIORITY.get(record.levelname, 6)}>"

    def _joined(self, record: logging.LogRecord, lines: list[str]) -> str:
        return "\n".join(self._prefix(record) + line for line in lines)


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line = {
            "time": round(record.created, 3),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def _quoted(value: object) -> str:
    text = f"{value:.3f}" if isinstance(value, float) else str(value)
    is_plain = text.isprintable() and not any(c in text for c in ' "=')
    return text if text and is_plain else json.dumps(text)


FORMATTERS: dict[LogFormat, type[logging.Formatter]] = {
    "text": TextFormatter,
    "json": JsonFormatter,
    "journal": JournalFormatter,
}


def configure(log_format: LogFormat = "text", level: str = "info") -> None:
    """Send every record of edgeq to stderr; called once by the command line."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(FORMATTERS[log_format]())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for chatty in ("watchdog", "PIL"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
