"""configs/edgeq.yaml is the reference that people read: it must show every key as it is."""

from __future__ import annotations

import re
from functools import reduce
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from edgeq.config import Config, Sidecar, load
from edgeq.config.document import read_document
from edgeq.config.fields import leaves
from edgeq.drift.options import DriftOptions
from edgeq.intake.admit import AdmitOptions
from edgeq.samples.image import Preprocessing
from edgeq.samples.store import StoreOptions
from edgeq.swap import ProbationOptions, SwapOptions

REFERENCE = Path(__file__).resolve().parents[2] / "configs" / "edgeq.yaml"
KEYS = [key for key, _ in leaves(Config)]


def leaves_of(section: type[BaseModel]) -> list[Any]:
    """Each key and its field, named by the key: a field's own text holds addresses."""
    return [pytest.param(key, field, id=".".join(key)) for key, field in leaves(section)]


def test_the_reference_file_is_the_defaults():
    assert load(REFERENCE, {}) == Config()


@pytest.mark.parametrize("key", KEYS, ids=".".join)
def test_the_reference_file_shows_every_key_with_a_comment(key):
    document = read_document(REFERENCE)
    assert key in document.lines
    line = REFERENCE.read_text().splitlines()[document.lines[key] - 1]
    assert re.search(r"  # \w", line), f"no comment: {line}"


@pytest.mark.parametrize(("key", "field"), leaves_of(Config))
def test_every_key_is_described_with_its_unit(key, field):
    assert field.description
    for suffix, unit in (("_s", "seconds"), ("_bytes", "bytes"), ("_db", "dB"), ("_port", "TCP")):
        assert not key[-1].endswith(suffix) or unit in field.description


def test_lists_every_leaf_once_and_no_section():
    assert ("swap", "probation", "window_s") in KEYS
    assert ("swap",) not in KEYS
    assert len(KEYS) == len(set(KEYS))


@pytest.mark.parametrize(("key", "field"), leaves_of(Sidecar))
def test_every_sidecar_key_has_a_default(key, field):
    value = reduce(getattr, key, Sidecar())
    assert value == field.default


def test_the_defaults_are_the_stages_own():
    config = Config()
    assert config.samples.store_options == StoreOptions()
    assert config.swap.options == SwapOptions()
    assert config.swap.probation.options == ProbationOptions()
    assert config.drift.drift_options == DriftOptions()
    assert config.security.admit_options == AdmitOptions()
    assert Sidecar().preprocessing.options == Preprocessing()


def test_every_option_of_a_stage_comes_from_its_section():
    values = {
        "samples": {"minimum": 5, "maximum": 99, "max_bytes": 5},
        "swap": {"policy": "drop-then-load", "instances": 2, "queue_size": 3, "max_batch": 4,
                 "max_delay_us": 5, "warmup_runs": 0, "drain_timeout_s": 9.0,
                 "probation": {"window_s": 7.0, "max_error_ratio": 0.5,
                               "max_latency_ratio": 3.0}},
        "drift": {"policy": "off", "window": 3, "psi": 0.5, "false_alarm_ratio": 0.02,
                  "interval_s": 1.0,
                  "minimum_interval_s": 2.0, "activation_interval_s": 3.0,
                  "save_interval_s": 4.0},
        "security": {"max_model_bytes": 77},
    }  # fmt: skip
    config = Config.model_validate(values)
    assert config.samples.store_options == StoreOptions(99, 5)
    assert config.swap.options == SwapOptions(
        policy="drop-then-load",
        instances=2,
        queue_size=3,
        max_batch=4,
        max_delay_us=5,
        warmup_runs=0,
        drain_timeout_s=9.0,
    )
    assert config.swap.probation.options == ProbationOptions(
        window_s=7.0, max_error_ratio=0.5, max_latency_ratio=3.0
    )
    assert config.drift.drift_options == DriftOptions(
        policy="off",
        window=3,
        psi=0.5,
        false_alarm_ratio=0.02,
        interval_s=1.0,
        minimum_interval_s=2.0,
        activation_interval_s=3.0,
        save_interval_s=4.0,
    )
    assert config.security.admit_options.max_model_bytes == 77


def test_a_required_sandbox_takes_no_drop_without_it():
    security = Config.model_validate({"security": {"sandbox": "required"}}).security
    assert security.admit_options == AdmitOptions(must_confine=True)
