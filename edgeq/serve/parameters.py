"""The `parameters` of a request, an input or an output -> what they mean, in any protocol."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeq.errors import InvalidRequestError
from edgeq.serve.requests import RegionSlice
from edgeq.serve.tensors import quoted

FILE_PREFIX = "file:"  # of the parameters of a load that bring the model
LONGEST_US = 1 << 62  # beyond it, a float holds no more microseconds anyway


def flag(parameters: Mapping[str, Any], name: str, where: object, *, default: bool = False) -> bool:
    """Return true or false; InvalidRequestError for anything else."""
    value = parameters.get(name)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise InvalidRequestError(f"{where} has {name} {quoted(value)}; true or false is expected")
    return value


def count(parameters: Mapping[str, Any], name: str, where: object) -> int | None:
    """Return a number of 0 or more, None where absent; InvalidRequestError for anything else."""
    value = parameters.get(name)
    if value is None:
        return None
    if type(value) is not int or value < 0:
        raise InvalidRequestError(
            f"{where} has {name} {quoted(value)}; an integer of 0 or more is expected"
        )
    return value


def timeout_s(parameters: Mapping[str, Any]) -> float | None:
    """Return the request's own timeout, sent in microseconds; 0 is none, as in Triton."""
    microseconds = count(parameters, "timeout", "the request")
    return min(microseconds, LONGEST_US) / 1e6 if microseconds else None


def place(parameters: Mapping[str, Any], where: object) -> RegionSlice | None:
    """Return where in shared memory the tensor lies, or None where it does not.

    Raises:
        InvalidRequestError: the region is not a name, or offset and size are no sizes.
    """
    region = parameters.get("shared_memory_region")
    if region is None:
        return None
    if not isinstance(region, str):
        raise InvalidRequestError(
            f"{where} has shared_memory_region {quoted(region)}; a string is expected"
        )
    size = count(parameters, "shared_memory_byte_size", where)
    if size is None:
        raise InvalidRequestError(
            f"{where} is in shared memory and has no shared_memory_byte_size; bytes are expected"
        )
    return RegionSlice(region, count(parameters, "shared_memory_offset", where) or 0, size)


def load_config(parameters: Mapping[str, Any]) -> str | None:
    """Return a load's model configuration, None where absent.

    Raises:
        InvalidRequestError: it is no text, or there is a parameter that a load does not take.
    """
    config = parameters.get("config")
    if config is not None and not isinstance(config, str):
        raise InvalidRequestError(f"config is {quoted(config)}; a text of JSON is expected")
    unknown = [key for key in parameters if key != "config" and not key.startswith(FILE_PREFIX)]
    if unknown:
        raise InvalidRequestError(
            f"load has parameter {quoted(unknown[0])}; config and {FILE_PREFIX}PATH are taken"
        )
    return config
