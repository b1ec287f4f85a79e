"""ai-edge-quantizer: float .tflite -> static INT8 .tflite; its two ways to calibrate.

preserve (its default) reads every tensor from Python after each run; profiler lets the
interpreter's own profiler keep the minima and maxima. Both then take a moving average of them.
It refuses a model without a signature; one is added here, and said in the notes.
"""

from __future__ import annotations

import flatbuffers
from ai_edge_litert import schema_py_generated as schema
from ai_edge_quantizer import quantizer, recipe
from ai_edge_quantizer.calibrator import CalibrationMode
from measured import Job, Notes, main

KEY = "serving_default"
MODES = {
    "preserve": CalibrationMode.CALIBRATION_PRESERVE_ALL_TENSORS,
    "profiler": CalibrationMode.CALIBRATION_PROFILER_BASED,
}


def named(graph: schema.SubGraphT, tensors: list[int], prefix: str) -> list[schema.TensorMapT]:
    """Return the signature's entries for these tensors: prefix and number -> tensor."""
    entries = []
    for number, index in enumerate(tensors):
        entry = schema.TensorMapT()
        entry.name, entry.tensorIndex = f"{prefix}{number}", int(index)
        entries.append(entry)
    return entries


def with_own_signature(content: bytes) -> tuple[bytes, bool]:
    """Return the model with the one signature that is used here, and whether it had any."""
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
    had_any = bool(model.signatureDefs)
    graph = model.subgraphs[0]
    signature = schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = KEY, 0
    signature.inputs = named(graph, graph.inputs, "input_")
    signature.outputs = named(graph, graph.outputs, "output_")
    model.signatureDefs = [signature]
    builder = flatbuffers.Builder(len(content))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output()), had_any


def quantize(job: Job, notes: Notes) -> None:
    content, had_any = with_own_signature(job.model.read_bytes())
    if not had_any:
        notes.lines.append("refuses the file as it is (no signature); one was added")
    # A list, for its progress bar consumes a generator before calibration sees it.
    frames = [{f"input_{n}": x for n, x in enumerate(frame)} for frame in job.frames()]
    made = quantizer.Quantizer(content, recipe.static_wi8_ai8())
    ranges = made.calibrate({KEY: frames}, num_threads=job.threads, mode=MODES[job.setting])
    result = made.quantize(ranges, enable_progress_bar=False, enable_progress_report=False)
    job.out.write_bytes(result.quantized_model)


main(quantize, "ai-edge-quantizer", "ai-edge-litert")
