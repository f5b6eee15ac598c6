"""A real runtime for programs on the JVM: tensors in on standard input, tensors out.

Numbers are big-endian, as Java's DataOutputStream writes them; tensors are as they are.
"""

from __future__ import annotations

import struct
import sys
from typing import Any, BinaryIO

import numpy as np

Tensors = dict[str, np.ndarray]


def text(stream: BinaryIO) -> str:
    (length,) = struct.unpack(">H", stream.read(2))
    return stream.read(length).decode()


def number(stream: BinaryIO, form: str = ">i") -> int:
    return struct.unpack(form, stream.read(struct.calcsize(form)))[0]


def read(stream: BinaryIO) -> Tensors | None:
    counted = stream.read(4)
    if not counted:
        return None
    tensors = {}
    for _ in range(struct.unpack(">i", counted)[0]):
        name, dtype = text(stream), text(stream)
        shape = [number(stream, ">q") for _ in range(number(stream))]
        tensors[name] = np.frombuffer(stream.read(number(stream)), dtype).reshape(shape)
    return tensors


def write(stream: BinaryIO, tensors: Tensors) -> None:
    stream.write(struct.pack(">i", len(tensors)))
    for name, array in tensors.items():
        for word in (name, array.dtype.name):
            stream.write(struct.pack(">H", len(word)) + word.encode())
        stream.write(struct.pack(">i", array.nbytes) + array.tobytes())
    stream.flush()


def onnxruntime(model: str, threads: int) -> Any:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(model, options)
    names = [value.name for value in session.get_outputs()]
    return lambda inputs: dict(zip(names, session.run(names, inputs), strict=True))


def litert(model: str, threads: int) -> Any:
    """By the signature's names; a tensor's shape is the model's, as LiteRT's buffers have it."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model, num_threads=threads)
    interpreter.allocate_tensors()
    runner = interpreter.get_signature_runner()
    details = runner.get_input_details()

    def run(inputs: Tensors) -> Tensors:
        shaped = {
            # A byte has no sign until the model says so: the classes know one kind of it.
            name: array.view(details[name]["dtype"]).reshape(details[name]["shape"])
            for name, array in inputs.items()
        }
        return runner(**shaped)

    return run


if __name__ == "__main__":
    model, runtime, threads = sys.argv[1:]
    run = {"litert": litert, "onnxruntime": onnxruntime}[runtime](model, int(threads))
    while (inputs := read(sys.stdin.buffer)) is not None:
        write(sys.stdout.buffer, run(inputs))
