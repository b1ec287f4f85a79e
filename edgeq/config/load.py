"""File + environment -> Config; the environment wins, and nothing unknown passes in either."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from edgeq.config.document import Document, Location, parse_scalar, read_document
from edgeq.config.fields import Key, leaves
from edgeq.config.schema import Config
from edgeq.config.validation import validate
from edgeq.errors import ConfigError

PREFIX = "EDGEQ_"
CONFIG_VARIABLE = "EDGEQ_CONFIG"  # names the file
TOKEN_VARIABLE = "EDGEQ_TOKEN"  # what the commands send with --url
COMPILER_VARIABLE = "EDGEQ_NVRTC"  # the path of a libnvrtc for the CUDA backend
NOT_KEYS = (CONFIG_VARIABLE, TOKEN_VARIABLE, COMPILER_VARIABLE)


def load(path: Path | None, environ: Mapping[str, str]) -> Config:
    """Read the configuration.

    Args:
        path: the file; None takes EDGEQ_CONFIG's, and without that the defaults.
        environ: EDGEQ_<SECTION>_<KEY> override keys, e.g. EDGEQ_SERVER_HTTP_PORT=9000.

    Raises:
        ConfigError: `file:line: key 'sever' is unknown; did you mean 'server'?`
    """
    if path is None and environ.get(CONFIG_VARIABLE):
        path = Path(environ[CONFIG_VARIABLE])
    document = Document(Path("defaults").absolute(), {}, {})
    if path is not None:
        document = read_document(path.absolute())
    overrides = _overrides(environ)
    values = copy.deepcopy(document.values)
    for key, variable in overrides.items():
        _set(values, key, _value(key, variable, environ[variable]))
    named: dict[Location, str] = {(*key,): variable for key, variable in overrides.items()}
    return validate(Config, replace(document, values=values), overrides=named)


def variable_name(key: Key) -> str:
    """Return the environment variable that overrides a key."""
    return PREFIX + "_".join(key).upper()


def _overrides(environ: Mapping[str, str]) -> dict[Key, str]:
    known = {variable_name(key): key for key, _ in leaves(Config)}
    given = sorted(name for name in environ if name.startswith(PREFIX) and name not in NOT_KEYS)
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, [*known, *NOT_KEYS], n=1)
            meant = f"; did you mean {near[0]}?" if near else ""
            raise ConfigError(
                f"the environment variable {name} is unknown{meant}",
                hint=f"Unset it; {PREFIX}<SECTION>_<KEY> overrides a key of the configuration.",
            )
    return {known[name]: name for name in given}


def _value(key: Key, variable: str, text: str) -> Any:
    annotation = dict(leaves(Config))[key].annotation
    if text and _is_path(annotation):
        return str(Path(text).absolute())  # a shell's relative path counts from where it stands
    if text and annotation is str:
        return text
    try:
        return parse_scalar(text)
    except ValueError as error:
        raise ConfigError(f"{variable}: {error}", hint=f"Mend {variable}.") from error


def _is_path(annotation: Any) -> bool:
    return annotation is Path or any(_is_path(part) for part in get_args(annotation))


def _set(section: Any, key: Key, value: Any) -> None:
    for name in key[:-1]:
        if section.get(name) is None:
            section[name] = {}
        section = section[name]
        if not isinstance(section, dict):
            return  # the file has a plain value where a section belongs: validation says so
    section[key[-1]] = value
