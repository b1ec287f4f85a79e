"""Models that end by suppressing detections -> the same models ending before it.

The op sorts boxes by score and drops all but the best: two that change places, or one more that
falls below the threshold, and what follows is another box. A comparison must come before it.
"""

from __future__ import annotations

import numpy as np

from edgeq.tflite.model import Model, indices

SUPPRESSION = "CUSTOM:TFLite_Detection_PostProcess"


def before_suppression(model: Model) -> Model:
    """Return a copy that gives what its suppression reads in place of what it lets through.

    The boxes and scores keep their tensors' names, which float and INT8 form have in common. A
    model without suppression at its end comes back as it is.
    """
    producers = model.producers()
    ends: dict[int, None] = {}
    for output in model.outputs:
        operator = model.operators[producers[output]] if output in producers else None
        if operator is None or model.op_name(operator) != SUPPRESSION:
            ends[output] = None
        else:
            read = indices(operator.inputs)
            ends |= dict.fromkeys(tensor for tensor in read if not model.is_constant(tensor))
    if list(ends) == list(dict.fromkeys(model.outputs)):
        return model
    opened = model.copy()
    opened.graph.outputs = np.asarray(list(ends), np.int32)
    opened.proto.signatureDefs = []  # their output maps would no longer hold
    return opened
