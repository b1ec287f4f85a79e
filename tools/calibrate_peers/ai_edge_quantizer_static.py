"""ai-edge-quantizer: float .tflite -> static INT8 .tflite; its two ways to calibrate.

preserve (its default) reads every tensor from Python after each run; profiler lets the
interpreter's own profiler keep the minima and maxima. Both then take a moving average of them.
It refuses a model without a signature, and takes every op of a file from before 2020 (whose codes
are only in the field `deprecated_builtin_code`) for an ADD. Both are put right here, and noted.
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


def named(tensors: list[int], prefix: str) -> list[schema.TensorMapT]:
    """Return the signature's entries for these tensors: prefix and number -> tensor."""
    entries = []
    for number, index in enumerate(tensors):
        entry = schema.TensorMapT()
        entry.name, entry.tensorIndex = f"{prefix}{number}", int(index)
        entries.append(entry)
    return entries


def put_right(content: bytes, notes: Notes) -> bytes:
    """Return the model with the one signature that is used here, and its ops' codes in place."""
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
    if not model.signatureDefs:
        notes.lines.append("refuses the file as it is (no signature); one was added")
    if any(code.builtinCode < code.deprecatedBuiltinCode for code in model.operatorCodes):
        notes.lines.append("misreads the old file's op codes; they were filled in")
        for code in model.operatorCodes:
            code.builtinCode = max(code.builtinCode, code.deprecatedBuiltinCode)
    graph = model.subgraphs[0]
    signature = schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = KEY, 0
    signature.inputs = named(graph.inputs, "input_")
    signature.outputs = named(graph.outputs, "output_")
    model.signatureDefs = [signature]
    builder = flatbuffers.Builder(len(content))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def quantize(job: Job, notes: Notes) -> None:
    content = put_right(job.model.read_bytes(), notes)
    # A list, for its progress bar consumes a generator before calibration sees it.
    frames = [{f"input_{n}": x for n, x in enumerate(frame)} for frame in job.frames()]
    made = quantizer.Quantizer(content, recipe.static_wi8_ai8())
    ranges = made.calibrate({KEY: frames}, num_threads=job.threads, mode=MODES[job.setting])
    result = made.quantize(ranges, enable_progress_bar=False, enable_progress_report=False)
    job.out.write_bytes(result.quantized_model)


main(quantize, "ai-edge-quantizer", "ai-edge-litert")
