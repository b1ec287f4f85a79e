from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeq.build.mixed import MARGIN_DB, MixedSearch, is_clear, mixed_models, with_margin
from edgeq.build.options import BuildOptions, BuildResult
from edgeq.build.pipeline import build
from edgeq.bundle import Bundle
from edgeq.engines.cpu import CpuEngine
from edgeq.engines.table import load_float
from edgeq.errors import GateError
from edgeq.quantize.convert import quantize
from edgeq.samples.split import only, split_samples
from edgeq.samples.store import Sample
from edgeq.tflite.model import Model
from edgeq.tflite.runtime import Runner
from edgeq.tflite.structure import check_structure
from edgeq.verify import OutputFidelity, Verdict, VerifyOptions
from tests.build_samples import from_list
from tests.quantize.minmax import minmax_table
from tests.quantize.sensitive import chain, dead_channel_samples
from tests.shared_models import calibration_samples, shared_tasks

GATE = VerifyOptions(cosine=0.5, sqnr_db=20.0, task="regression")
BAD_OP = 2


@pytest.fixture(scope="module")
def model() -> Model:
    """One op of it is far too coarse in INT8."""
    return chain(huge_weight_at=BAD_OP)


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    return dead_channel_samples(48)


def build_mixed(
    model: Model, samples: list[Sample], out: Path, *, keep: Any = None, **options: Any
) -> BuildResult:
    chosen = BuildOptions(method="max", **{"verify": GATE, **options})
    return build(model.to_bytes(), from_list(samples), out, chosen, keep=keep)


# ---- the build


@pytest.fixture(scope="module")
def mixed(model, samples, tmp_path_factory) -> BuildResult:
    return build_mixed(model, samples, tmp_path_factory.mktemp("mixed") / "b")


def test_a_refused_model_passes_with_its_worst_op_float(mixed):
    assert mixed.verdict.passed
    (op,) = mixed.float_ops
    assert (op.index, op.name) == (BAD_OP, "CONV_2D")
    assert op.reason.startswith("kept float: alone in INT8 it leaves an SQNR of ")


def test_the_manifest_and_the_json_name_the_float_ops(mixed):
    (in_json,) = mixed.as_dict()["float_ops"]
    (in_manifest,) = Bundle.open(mixed.bundle.directory).manifest.float_ops
    assert in_json == in_manifest
    assert "kept float" in in_json["reason"]


def test_the_stages_name_the_search_only_where_it_ran(mixed, samples, tmp_path):
    assert list(mixed.stages) == [
        "read", "calibrate", "quantize", "refine", "engine", "verify", "sensitivity", "latency",
        "explain", "bundle",
    ]  # fmt: skip
    good = build_mixed(chain(), samples, tmp_path / "b")
    assert "sensitivity" not in good.stages
    assert good.float_ops == ()


def test_the_island_is_valid_and_runs_on_both_kinds_of_kernels(mixed, samples):
    content = mixed.bundle.read("int8.tflite")
    model = Model.from_bytes(content)
    check_structure(model)
    step = float(model.quantization(model.names().index("y3_int8")).scale[0])
    delegated, plain = Runner(content), Runner(content, delegate=False)
    for sample in samples[:8]:
        (by_delegate,) = delegated.run(sample.inputs).values()
        (by_plain,) = plain.run(sample.inputs).values()
        np.testing.assert_allclose(by_delegate, by_plain, atol=4 * step)  # a flip on the way


def test_the_order_of_the_samples_does_not_matter(mixed, model, samples, tmp_path):
    again = build_mixed(model, samples[::-1], tmp_path / "b")
    assert again.bundle.read("int8.tflite") == mixed.bundle.read("int8.tflite")
    assert [op.index for op in again.float_ops] == [op.index for op in mixed.float_ops]


def test_without_mixed_precision_the_gate_s_refusal_stands(model, samples, tmp_path):
    with pytest.raises(GateError, match="SQNR"):
        build_mixed(model, samples, tmp_path / "b", mixed_precision=False)
    assert not any(tmp_path.iterdir())


def test_where_nothing_passes_the_error_is_that_of_the_int8_model(model, samples, tmp_path):
    gate = VerifyOptions(sqnr_db=180.0, task="regression")
    kept: dict[str, bytes] = {}
    with pytest.raises(GateError, match=r"180\.0 dB") as caught:
        build_mixed(model, samples, tmp_path / "b", verify=gate, keep=kept.__setitem__)
    assert not any(tmp_path.iterdir())
    assert caught.value.verdict["sqnr_db"] == json.loads(kept["verdict.json"])["sqnr_db"] < 20


# ---- the search


def search_over(
    model: Model, samples: list[Sample], *, gone: bool = False, **fields: Any
) -> MixedSearch:
    table = minmax_table(model, [s.inputs for s in samples])
    reference = load_float(model.to_bytes())
    given: dict[str, Any] = {
        "model": model,
        "table": table,
        "samples": from_list([] if gone else samples),
        "reference": reference.infer,
        "make": lambda float_ops: quantize(model, table, float_ops=float_ops),
        "load": lambda int8, threads: CpuEngine(int8, "cpu-int8", threads=threads),
        "gate": GATE,
    }
    return MixedSearch(**{**given, **fields})


def test_the_search_never_reads_a_held_out_sample(model, samples, tmp_path):
    split = split_samples(from_list(samples), 0.25)
    apart = [s for s in samples if s.id in split.select]
    assert not split.select & split.held_out
    assert [s.id for s in only(from_list(samples), split.select)] == [s.id for s in apart]
    fewest = next(mixed_models(search_over(model, apart)))
    assert [op.index for op in fewest.float_ops] == [BAD_OP]


def test_a_gate_that_still_refuses_is_offered_twice_as_many_float_ops(model, samples):
    offered = list(mixed_models(search_over(model, samples)))
    assert [len(quantized.float_ops) for quantized in offered] == [1, 2]
    assert all(quantized.int8_ops for quantized in offered)


def test_progress_counts_the_models_tried(model, samples):
    counts: list[int] = []
    next(mixed_models(search_over(model, samples), counts.append))
    assert counts == list(range(1, len(counts) + 1))
    assert counts


def test_nothing_is_offered_where_the_samples_are_gone(model, samples):
    assert list(mixed_models(search_over(model, samples, gone=True))) == []


def test_nothing_is_offered_where_only_all_float_would_pass(model, samples):
    gate = VerifyOptions(sqnr_db=180.0, task="regression")
    assert list(mixed_models(search_over(model, samples, gate=gate))) == []


def test_the_margin_is_the_same_noise_by_sqnr_and_by_cosine():
    surer = with_margin(VerifyOptions(cosine=0.9, sqnr_db=10.0))
    assert surer.sqnr_db == 10.0 + MARGIN_DB
    assert 10 * np.log10((1 - 0.9) / (1 - surer.cosine)) == pytest.approx(MARGIN_DB)
    assert surer.agreement == VerifyOptions().agreement


def verdict(accepted: float | None, *, passed: bool = True) -> Verdict:
    output = OutputFidelity("y", accepted, accepted, 1.0, 1.0, 30.0, 0, 0, 8)
    return Verdict(passed, 8, (), (output,), VerifyOptions(agreement=0.9))


def test_what_only_chance_lets_pass_is_not_clear():
    assert is_clear(verdict(0.9))
    assert not is_clear(verdict(0.89))
    assert is_clear(verdict(None))
    assert not is_clear(verdict(None, passed=False))


@pytest.mark.shared
def test_a_real_model_passes_a_gate_that_refuses_all_int8(shared: Path, tmp_path):
    task = shared_tasks(shared)["ultraface_slim320"]
    content = (shared / "data" / task["model"]).read_bytes()
    samples = calibration_samples(shared, task, 16)
    gate = VerifyOptions(cosine=0.0, sqnr_db=28.0, task="regression")
    options = BuildOptions(method="entropy", refine=False, verify=gate)
    alone = replace(options, mixed_precision=False)
    with pytest.raises(GateError):
        build(content, from_list(samples), tmp_path / "b", alone)
    result = build(content, from_list(samples), tmp_path / "b", options)
    assert result.verdict.passed
    assert 1 <= len(result.float_ops) <= 46  # of 92
    assert any("kept float" in op.reason for op in result.float_ops)
