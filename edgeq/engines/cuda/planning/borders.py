"""A Program -> one whose inputs and outputs kernels can work on: copies where they must stand."""

from __future__ import annotations

from dataclasses import replace

from edgeq.engines.cuda.program.edges import copying, readers, writers
from edgeq.engines.cuda.program.nodes import Convolution, Depthwise, Node, Program, Value

WORD = 4  # int8 channels that dp4a takes at once


def prepare_borders(program: Program) -> Program:
    """Give each output a value of its own, and pad the channels of int8 inputs."""
    return _pad_inputs(_separate_outputs(program))


def _separate_outputs(program: Program) -> Program:
    """Copy what is an output twice, or an input or a constant too: each output has one buffer."""
    written, seen = writers(program), set[int]()
    for place, value in enumerate(program.outputs):
        if value in seen or not written[value]:
            program, copied = _with_copy(program, value, len(program.nodes), "output")
            outputs = list(program.outputs)
            outputs[place] = copied
            program = replace(program, outputs=tuple(outputs))
        seen.add(value)
    return program


def _pad_inputs(program: Program) -> Program:
    """Copy int8 images of 3 channels once, rather than read them byte by byte in every tap."""
    for value in program.inputs:
        shape, datatype = program.values[value].shape, program.values[value].datatype
        if datatype != "int8" or len(shape) != 4 or shape[-1] % WORD == 0:
            continue
        users = [p for p in readers(program)[value] if _slides(program.nodes[p])]
        if users:
            program, copied = _with_copy(program, value, 0, "input")
            nodes = list(program.nodes)
            for user in users:
                nodes[user + 1] = replace(nodes[user + 1], x=copied)  # type: ignore[arg-type]
            program = replace(program, nodes=tuple(nodes))
    return program


def _slides(node: Node) -> bool:
    return isinstance(node, Convolution | Depthwise)


def _with_copy(program: Program, value: int, place: int, role: str) -> tuple[Program, int]:
    """Return the program with a copy of `value` made by node `place`, and that copy."""
    own, copied = program.values[value], len(program.values)
    nodes, labels = list(program.nodes), list(program.labels)
    nodes.insert(place, copying(program, value, copied))
    labels.insert(place, f"copy of {role} {own.name}")
    return replace(
        program,
        values=(*program.values, Value(f"{own.name} (copy)", own.shape, own.datatype)),
        nodes=tuple(nodes),
        labels=tuple(labels) if program.labels else (),
    ), copied
