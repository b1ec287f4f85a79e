from __future__ import annotations

import pytest

from edgeq.config import Sidecar, read_sidecar
from edgeq.errors import ConfigError
from edgeq.samples.image import Preprocessing


def read(tmp_path, text: str) -> Sidecar:
    path = tmp_path / "face.yaml"
    path.write_text(text)
    return read_sidecar(path)


def test_an_empty_sidecar_says_nothing(tmp_path):
    assert read(tmp_path, "") == Sidecar()


def test_all_of_a_sidecar_is_read(tmp_path):
    digest = "AB" * 32
    sidecar = read(
        tmp_path,
        f"""
preprocessing: {{size: [96, 64], resize: area, crop: center, channels: bgr,
  mean: [1, 2, 3], std: 255, scale: 0.5, layout: nchw}}
task: classification
gate: {{agreement: 0.9, cosine: 1, sqnr_db: -3}}
method: max
sha256: {digest}
policy: drop-then-load
interface: replace
probation: {{max_latency_ratio: 4, max_disagreement_ratio: 0.2}}
""",
    )
    assert sidecar.preprocessing.size == (96, 64)
    assert sidecar.preprocessing.mean == (1.0, 2.0, 3.0)
    assert sidecar.preprocessing.std == (255.0,)
    assert (sidecar.gate.agreement, sidecar.gate.cosine, sidecar.gate.sqnr_db) == (0.9, 1.0, -3.0)
    assert (sidecar.task, sidecar.method, sidecar.policy) == (
        "classification",
        "max",
        "drop-then-load",
    )
    assert sidecar.interface == "replace"
    assert sidecar.probation.max_latency_ratio == 4.0
    assert sidecar.probation.max_disagreement_ratio == 0.2
    assert sidecar.sha256 == digest.lower()
    assert sidecar.preprocessing.options == Preprocessing(
        (96, 64), "area", "center", "bgr", (1.0, 2.0, 3.0), (255.0,), 0.5, "nchw"
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("preprocessing: {men: 1}", "'preprocessing.men' is unknown; did you mean"),
        ("preprocessing: {size: [3]}", "key 'preprocessing.size.1' is missing"),
        ("preprocessing: {size: [3, 0]}", "'preprocessing.size.1' is 0; expected greater than"),
        ("preprocessing: {mean: [1, a]}", "'preprocessing.mean.1' is 'a'; expected a number"),
        ("preprocessing: {std: [1, 0]}", "preprocessing.std holds 0; a deviation divides"),
        ("preprocessing: {mean: []}", "'preprocessing.mean' is []; expected at least 1 item"),
        ("sha256: abc", "'sha256' is 'abc'; expected 64 hex digits"),
        ("gate: {agreement: 2}", "'gate.agreement' is 2; expected less than or equal to 1"),
        ("server: {}", "'server' is unknown; known here: preprocessing, task"),
    ],
)
def test_a_wrong_sidecar_says_which_key(tmp_path, text, said):
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text)
    assert caught.value.message.startswith(f"{tmp_path}/face.yaml:1: ")
    assert said in caught.value.message
