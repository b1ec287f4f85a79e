"""An .onnx model + samples -> its outputs, one array [N, ...] for each, in the folder `out`.

Also counts the ops with weights, and those of them whose data do not come from INT8: some tools
leave ops in float of their own accord, which is easier to be good at.
"""

from __future__ import annotations

import numpy as np
import onnx
from measured import Job, Notes, main
from onnx_sessions import named_frames, open_session

WEIGHTED = {"Conv", "ConvTranspose", "Gemm", "MatMul"}
MOVING = {"Flatten", "Identity", "MaxPool", "Pad", "Reshape", "Squeeze", "Transpose", "Unsqueeze"}


def count_ops(model: onnx.ModelProto) -> dict[str, int]:
    """Return how many ops have weights, and how many of them work on float data."""
    makers = {name: node for node in model.graph.node for name in node.output}

    def is_dequantized(name: str) -> bool:
        maker = makers.get(name)
        if maker is None:
            return False
        if maker.op_type == "Concat":
            return all(is_dequantized(part) for part in maker.input)
        if maker.op_type in MOVING:  # the values stay what they are
            return is_dequantized(maker.input[0])
        return bool(maker.op_type == "DequantizeLinear")

    weighted = [node for node in model.graph.node if node.op_type in WEIGHTED]
    in_float = [node for node in weighted if not is_dequantized(node.input[0])]
    return {"weighted_ops": len(weighted), "float_ops": len(in_float)}


def run(job: Job, notes: Notes) -> None:
    notes.details.update(count_ops(onnx.load(str(job.model))))
    frames, session = named_frames(job), open_session(job)
    job.out.mkdir()
    arrays: list[np.ndarray] = []
    for row, frame in enumerate(frames):
        outputs = session.run(None, frame)
        if not row:
            arrays = [
                np.lib.format.open_memmap(
                    job.out / f"{number}.npy", "w+", np.float32, (len(frames), *output.shape)
                )
                for number, output in enumerate(outputs)
            ]
        for array, output in zip(arrays, outputs, strict=True):
            array[row] = output


main(run, "onnx")
