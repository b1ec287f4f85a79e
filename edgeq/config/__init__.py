"""A YAML file and the environment -> Config, from which each stage gets its own Options."""

from edgeq.config.cautions import cautions
from edgeq.config.changes import Changes, describe_changes
from edgeq.config.load import load
from edgeq.config.schema import Config
from edgeq.config.sidecar import Sidecar, parse_sidecar, read_sidecar
from edgeq.config.web_config import read_web_config

__all__ = [
    "Changes",
    "Config",
    "Sidecar",
    "cautions",
    "describe_changes",
    "load",
    "parse_sidecar",
    "read_sidecar",
    "read_web_config",
]
