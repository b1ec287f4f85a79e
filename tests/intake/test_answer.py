from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeq.errors import DropError
from edgeq.intake.answer import MAX_REASON, Probe, parse, read, refusal
from edgeq.intake.sandbox import PURPOSES

GOOD: dict[str, Any] = {
    "inputs": [{"name": "image", "shape": [1, -1, 8, 3], "dtype": "<f4"}],
    "outputs": [{"name": "mask", "shape": [], "dtype": "|b1"}],
    "ops": {"CONV_2D": 3},
    "quantized": False,
    "finite": True,
    "memory_bytes": 1 << 20,
    "load_s": 0.25,
    "run_s": 0.5,
    "sandbox": [{"name": "rlimits", "missing": "", "version": 0}],
}
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def test_a_good_answer_is_read() -> None:
    probe = read(GOOD)
    assert probe.inputs[0].shape == (1, -1, 8, 3)
    assert probe.outputs[0].dtype == bool
    assert (probe.ops, probe.load_s, probe.finite) == ({"CONV_2D": 3}, 0.25, True)
    assert probe.sandbox[0].name in PURPOSES


@pytest.mark.parametrize(
    ("where", "value"),
    [
        (("inputs",), {}),
        (("inputs", 0), []),
        (("inputs", 0, "name"), 7),
        (("inputs", 0, "name"), "\ud800"),  # a text that cannot be written down
        (("inputs", 0, "shape"), [1.5]),
        (("inputs", 0, "shape"), [True]),
        (("inputs", 0, "shape"), [-2]),
        (("inputs", 0, "shape"), [1 << 40]),
        (("inputs", 0, "dtype"), "O"),
        (("inputs", 0, "dtype"), "<f4,<f4"),
        (("inputs", 0, "dtype"), "<b4"),
        (("inputs", 0, "dtype"), "<f1"),
        (("inputs", 0, "dtype"), "(1,"),
        (("ops",), []),
        (("ops",), {"CONV_2D": -1}),
        (("quantized",), "false"),
        (("finite",), None),
        (("memory_bytes",), 1e9),
        (("memory_bytes",), 1 << 60),
        (("load_s",), float("nan")),
        (("load_s",), float("inf")),
        (("run_s",), -1.0),
        (("sandbox",), [{"name": "steel", "missing": "", "version": 0}]),
        (("sandbox",), None),
    ],
)
def test_what_the_probe_never_writes_is_refused(where: tuple[Any, ...], value: Any) -> None:
    answer = copy.deepcopy(GOOD)
    place: Any = answer
    for step in where[:-1]:
        place = place[step]
    place[where[-1]] = value
    with pytest.raises(ValueError):  # noqa: PT011 - each has its own words
        read(answer)


@pytest.mark.parametrize("name", GOOD)
def test_what_is_missing_is_refused(name: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        read({key: value for key, value in GOOD.items() if key != name})


@given(st.sampled_from(list(GOOD)), VALUES)
def test_any_value_is_read_or_refused(name: str, value: Any) -> None:
    try:
        probe = read({**GOOD, name: value})
    except ValueError:
        return
    assert isinstance(probe, Probe)


@given(st.binary() | VALUES.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_an_object_or_none(written: bytes) -> None:
    assert isinstance(parse(written), dict)


def test_an_answer_as_deep_as_a_well_is_none() -> None:
    assert parse(b"[" * 500_000) == {}
    assert parse(b'{"ok":' * 100_000) == {}


def _refused(**error: Any) -> DropError:
    found = refusal({"error": error})
    assert found is not None
    return found


def test_a_reason_is_one_of_the_child_s_own() -> None:
    for stage in ("structure", "load", "run", "sandbox"):
        assert _refused(stage=stage, message="m", hint="h").stage == stage
    for stage in ("settle", "copy", "signature", "x" * 100, None, 3):  # these mean more elsewhere
        assert _refused(stage=stage, message="m").stage == "probe"


def test_a_reason_is_cut_and_shows_no_terminal_anything() -> None:
    error = _refused(stage="load", message="a\x1b[2J\n\ud800" + "b" * 10_000, hint=["odd"])
    assert error.message.startswith("a\N{REPLACEMENT CHARACTER}[2J\N{REPLACEMENT CHARACTER}")
    assert len(error.message) == MAX_REASON
    assert error.message.isprintable()
    error.message.encode()


def test_an_answer_without_a_reason_has_none() -> None:
    assert refusal({}) is None
    assert refusal({"error": "text"}) is None
