"""A malformed .tflite is an error of the check: it never reaches a runtime, which would crash."""

import random
import struct

import flatbuffers
import pytest

from edgekit.errors import ModelError
from edgekit.sources import tflite_check
from edgekit.sources.flatbuffer import Flatbuffer

FLOAT, RELU, CUSTOM = 0, 19, 32


def built(*, shape=(1, 4), operand=0, buffer=0, data=b"", code=RELU, opcode=0, graph_input=0):
    """One operator over one tensor to another, each value as given."""
    b = flatbuffers.Builder(0)

    def table(count, *slots):
        b.StartObject(count)
        for slot, add in slots:
            add(slot)
        return b.EndObject()

    def offset(value):
        return lambda slot: b.PrependUOffsetTRelativeSlot(slot, value, 0)

    def numbers(values):
        b.StartVector(4, len(values), 4)
        for value in reversed(values):
            b.PrependInt32(value)
        return b.EndVector()

    def tables(values):
        b.StartVector(4, len(values), 4)
        for value in reversed(values):
            b.PrependUOffsetTRelative(value)
        return b.EndVector()

    name = b.CreateString("strange")
    codes = table(
        4,
        (0, lambda s: b.PrependInt8Slot(s, code, 0)),
        (1, offset(name)),
        (3, lambda s: b.PrependInt32Slot(s, code, 0)),
    )
    dims = numbers(shape)
    tensors = [
        table(
            8,
            (0, offset(dims)),
            (1, lambda s: b.PrependInt8Slot(s, FLOAT, 9)),
            (2, lambda s, at=at: b.PrependUint32Slot(s, at, 0)),
        )
        for at in (buffer, 0)
    ]
    ins, outs = numbers([operand]), numbers([1])
    operator = table(
        9, (0, lambda s: b.PrependUint32Slot(s, opcode, 0)), (1, offset(ins)), (2, offset(outs))
    )
    tensor_list, operator_list = tables(tensors), tables([operator])
    taken, given = numbers([graph_input]), numbers([1])
    subgraph = table(
        5,
        (0, offset(tensor_list)),
        (1, offset(taken)),
        (2, offset(given)),
        (3, offset(operator_list)),
    )
    content = b.CreateByteVector(data)
    buffers = tables([table(3), table(3, (0, offset(content)))])
    code_list, graph_list = tables([codes]), tables([subgraph])
    model = table(
        8,
        (0, lambda s: b.PrependUint32Slot(s, 3, 0)),
        (1, offset(code_list)),
        (2, offset(graph_list)),
        (4, offset(buffers)),
    )
    b.Finish(model, b"TFL3")
    return bytes(b.Output())


def check(content, folder):
    path = folder / "model.tflite"
    path.write_bytes(content)
    tflite_check.check(path)


def test_the_honest_ones_pass(tmp_path):
    check(built(), tmp_path)
    check(built(buffer=1, data=bytes(16)), tmp_path)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"operand": 2}, "an operator's tensor is number 2 of 2"),
        ({"operand": -7}, "an operator's tensor is number -7 of 2"),
        ({"opcode": 1}, "an operator's code is number 1 of 1"),
        ({"graph_input": 99}, "a graph's tensor is number 99 of 2"),
        ({"buffer": 2}, "a tensor's buffer is number 2 of 2"),
        ({"buffer": 1, "data": bytes(8)}, "8 bytes of data, not 16"),
        ({"shape": (1, -4)}, "a tensor of shape"),
        ({"shape": (1 << 30, 1 << 30)}, "GiB"),
        ({"code": CUSTOM}, "custom operators: strange"),
    ],
)
def test_an_index_or_a_size_that_is_wrong(changed, says, tmp_path):
    with pytest.raises(ModelError) as caught:
        check(built(**changed), tmp_path)
    assert says in caught.value.message


@pytest.mark.parametrize("root", [0, 0x10000, 0x7FFFFFFF, 0xFFFFFFFF, 0xFFFFFFF8])
def test_offsets_that_leave_the_file_or_wrap(root, tmp_path):
    with pytest.raises(ModelError):
        check(struct.pack("<I", root) + built()[4:], tmp_path)


def test_cut_at_every_byte(tmp_path):
    whole = built()
    for length in range(len(whole) - 1):
        with pytest.raises(ModelError):
            check(whole[:length], tmp_path)


def test_a_vtable_before_the_file(tmp_path):
    content = bytearray(built())
    root = struct.unpack_from("<I", content)[0]
    struct.pack_into("<i", content, root, root + 4)
    with pytest.raises(ModelError):
        check(bytes(content), tmp_path)


def test_whatever_is_changed_it_passes_or_is_refused():
    whole, draw = built(buffer=1, data=bytes(16)), random.Random(0)
    for _ in range(2000):
        content = bytearray(whole)
        for _ in range(draw.choice((1, 2, 8))):
            content[draw.randrange(len(content))] = draw.randrange(256)
        try:
            Flatbuffer(bytes(content)).verify()
        except ModelError:
            continue
