"""configs/edgeq.yaml is the reference that people read: it must show every key as it is."""

from __future__ import annotations

import re
from functools import reduce
from pathlib import Path

import pytest

from edgeq.config import Config, Sidecar, load
from edgeq.config.document import read_document
from edgeq.config.schema import leaves

REFERENCE = Path(__file__).resolve().parents[2] / "configs" / "edgeq.yaml"
KEYS = [key for key, _ in leaves(Config)]


def test_the_reference_file_is_the_defaults():
    assert load(REFERENCE, {}) == Config()


@pytest.mark.parametrize("key", KEYS, ids=".".join)
def test_the_reference_file_shows_every_key_with_a_comment(key):
    document = read_document(REFERENCE)
    assert key in document.lines
    line = REFERENCE.read_text().splitlines()[document.lines[key] - 1]
    assert re.search(r"  # \w", line), f"no comment: {line}"


@pytest.mark.parametrize(("key", "field"), list(leaves(Config)), ids=str)
def test_every_key_is_described_with_its_unit(key, field):
    assert field.description
    for suffix, unit in (("_s", "seconds"), ("_bytes", "bytes"), ("_db", "dB"), ("_port", "TCP")):
        assert not key[-1].endswith(suffix) or unit in field.description


def test_lists_every_leaf_once_and_no_section():
    assert ("swap", "probation", "window_s") in KEYS
    assert ("swap",) not in KEYS
    assert len(KEYS) == len(set(KEYS))


@pytest.mark.parametrize(("key", "field"), list(leaves(Sidecar)), ids=str)
def test_every_sidecar_key_has_a_default(key, field):
    value = reduce(getattr, key, Sidecar())
    assert value == field.default


def test_the_store_is_bounded_as_configured():
    options = Config.model_validate({"samples": {"maximum": 99, "max_bytes": 5}}).samples
    assert (options.store_options.maximum, options.store_options.max_bytes) == (99, 5)
