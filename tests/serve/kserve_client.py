"""kserve's REST client: address and `binary` or `json` as arguments -> what it got, as JSON.

In a process of its own: kserve and tritonclient.grpc both register the protocol's messages with
protobuf's one pool, under different file names, which fails for whichever comes second.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import kserve
import numpy as np
from kserve.protocol.infer_type import RequestedOutput

ARRAY = np.array([[1, 2.5, -3, 4]], np.float32)


async def talk(url: str, *, binary: bool) -> Any:
    client = kserve.InferenceRESTClient(kserve.RESTConfig(protocol="v2"))
    assert await client.is_server_live(url)
    assert await client.is_server_ready(url)
    assert await client.is_model_ready(url, "echo")
    made = kserve.InferInput("x", list(ARRAY.shape), "FP32")
    made.set_data_from_numpy(ARRAY, binary_data=binary)
    output = RequestedOutput("y", parameters={"binary_data": binary})
    request = kserve.InferRequest("echo", [made], request_outputs=[output], request_id="abc")
    response = await client.infer(url, request, model_name="echo")
    await client.close()
    return response


def main() -> None:
    response = asyncio.run(talk(f"http://{sys.argv[1]}", binary=sys.argv[2] == "binary"))
    values = response.outputs[0].as_numpy().tolist()
    print(json.dumps({"model": response.model_name, "id": response.id, "values": values}))


if __name__ == "__main__":
    main()
