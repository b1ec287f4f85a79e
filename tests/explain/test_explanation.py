"""explain.json."""

from __future__ import annotations

import json

import pytest

from edgeq.errors import BundleError
from edgeq.explain.explanation import Explanation
from tests import tiny
from tests.build_samples import drawn
from tests.explain.ill import explained


@pytest.fixture(scope="module")
def explanation() -> Explanation:
    return explained(tiny.tiny_model(), drawn(6, image=(1, 8, 8, 3)), method="entropy")


def test_what_is_written_is_read(explanation):
    assert Explanation.from_json(explanation.to_json()) == explanation


def test_it_is_plain_json_and_further_keys_are_ignored(explanation):
    content = json.loads(explanation.to_json())
    content["later"] = 1
    content["layers"][0]["later"] = {}
    assert Explanation.from_json(json.dumps(content).encode()) == explanation
    assert set(content["tensors"][0]["methods"]) >= {"entropy", "percentile", "mse", "max"}


def damaged(explanation: Explanation, path: list[str | int], value: object) -> bytes:
    content = json.loads(explanation.to_json())
    place = content
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return json.dumps(content).encode()


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["layers", 0, "sqnr_db"], "<script>"),
        (["layers", 0, "sqnr_db"], None),
        (["layers", 0, "index"], 1.5),
        (["layers", 0, "index"], True),
        (["tensors", 0, "tags"], [1]),
        (["tensors", 0, "methods"], []),
        (["tensors", 0, "methods", "max"], 3),
        (["tensors", 0, "name"], 3),
        (["worst"], 3),
        (["unmeasured"], None),
    ],
)
def test_a_value_of_another_type_is_refused(explanation, path, value):
    with pytest.raises(BundleError, match=r"explain\.json is damaged"):
        Explanation.from_json(damaged(explanation, path, value))


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"\xff", b'{"tensors": NaN}', b"[" * 9999])
def test_what_is_no_explanation_is_refused(content):
    with pytest.raises(BundleError):
        Explanation.from_json(content)
