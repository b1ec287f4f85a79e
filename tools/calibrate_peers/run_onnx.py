"""An .onnx model + samples -> its outputs, one array [N, ...] for each, in the folder `out`."""

from __future__ import annotations

import numpy as np
from measured import Job, Notes, main
from onnx_sessions import named_frames, open_session


def run(job: Job, notes: Notes) -> None:
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
