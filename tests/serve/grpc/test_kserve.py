"""KServe's own client, in a process of its own: its messages do not bear NVIDIA's beside them."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.serve.grpc.conftest import Serving

pytestmark = pytest.mark.slow

CLIENT = """
import asyncio, sys
import numpy as np
from kserve import InferenceGRPCClient, InferInput, InferRequest

async def main():
    client = InferenceGRPCClient(url=sys.argv[1])
    assert await client.is_server_live()
    assert await client.is_server_ready()
    assert await client.is_model_ready("echo")
    values = np.array([[1.5, -2, 0, 4]], np.float32)
    for is_raw in (True, False):
        given = InferInput("x", [1, 4], "FP32")
        given.set_data_from_numpy(values, binary_data=is_raw)
        answer = await client.infer(InferRequest("echo", [given], request_id="5"))
        np.testing.assert_array_equal(answer.outputs[0].as_numpy(), values)
        assert (answer.id, answer.model_version) == ("5", "3")
    await client.close()

asyncio.run(main())
"""


def test_kserves_client_is_answered_with_raw_and_typed_contents(serving: Serving) -> None:
    client = subprocess.run(
        [sys.executable, "-c", CLIENT, serving.address],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert client.returncode == 0, client.stderr
    assert [each.code for each in serving.records] == ["OK", "OK"]
