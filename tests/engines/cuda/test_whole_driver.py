"""The op table and real nets through the real pycuda, on a libcuda of our own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.engines.cases import CASES
from tests.engines.cuda.fake_libcuda.fake import FakeGpu
from tests.engines.cuda.test_ops import ON_CPU

LIMIT_S = 500
MODELS = 11  # 7 float ones that are quantized here, and 4 that came as INT8


@pytest.mark.shared
def test_every_op_and_every_real_net_gives_the_cpu_engine_s_bytes(
    fake_gpu: FakeGpu, tmp_path: Path, shared: Path
) -> None:
    report, data = tmp_path / "report.json", shared / "data"
    environment = fake_gpu.environment(sm=87, integrated=1)
    folders = [data / "models", data / "reference"]
    done = subprocess.run(
        [sys.executable, "-m", "tools.gpu_bench", "--no-bench", "--workloads",
         "--models", *folders, "--limit", str(LIMIT_S), "--json", report],
        env={**environment, "XDG_CACHE_HOME": str(tmp_path / "cache")},
        capture_output=True, text=True, timeout=LIMIT_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    written = json.loads(report.read_text())
    own = [row for row in written["op_table"] if row["status"] != "on the CPU"]
    rows = {row["name"]: row["bits"]["differing"] for row in own}
    assert rows == dict.fromkeys((c.name for c in CASES if c.name not in ON_CPU), 0)
    assert [row["bits"]["differing"] for row in written["models"]] == [0] * MODELS
    assert fake_gpu.control.alive() == {}
