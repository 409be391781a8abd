"""Pickles load plain data exactly, and nothing in them runs, whatever they ask for."""

from __future__ import annotations

import collections
import os
import pickle
import pickletools
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from skag.errors import DataError
from skag.readers import pickles


def loaded(tmp_path: Path, data: bytes) -> object:
    path = tmp_path / "data.pkl"
    path.write_bytes(data)
    return pickles.load(path)


def refusal(tmp_path: Path, data: bytes) -> str:
    with pytest.raises(DataError) as caught:
        loaded(tmp_path, data)
    message = str(caught.value)
    assert "\n" not in message and str(tmp_path) in message
    return message


def same(a: object, b: object) -> bool:
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        if a.dtype.hasobject:
            return a.shape == b.shape and all(same(x, y) for x, y in zip(a.flat, b.flat, strict=True))
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, dict) and isinstance(b, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple) and type(a) is type(b):
        return len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and (a == b or (a != a and b != b))


ARRAYS = hnp.arrays(
    st.sampled_from(["<f2", ">f4", "<f8", "<i4", ">i8", "u1", "?", "<U3", "S2"]),
    hnp.array_shapes(min_dims=0, min_side=0),
)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | ARRAYS
    | st.builds(np.float32, st.floats(width=32)) | st.builds(np.int64, st.integers(-9, 9)),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)  # fmt: skip


@pytest.mark.parametrize("protocol", range(6))
def test_plain_data_come_back_as_they_were(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "data.pkl"

    @given(PLAIN)
    def check(value: object) -> None:
        path.write_bytes(pickle.dumps(value, protocol))
        assert same(pickles.load(path), value)

    check()


@pytest.mark.parametrize("protocol", range(6))
def test_containers_orders_and_shared_arrays(tmp_path: Path, protocol: int) -> None:
    array = np.arange(6, dtype="f4").reshape(2, 3)
    objects = np.empty((2, 2), object)
    objects[:] = [["a", None], [array, 2]]
    value = {
        "fortran": np.asfortranarray(array),
        "objects": np.asfortranarray(objects),
        "twice": [array, array],
        "ordered": collections.OrderedDict(a=1),
        "deep": ((array,),),
    }
    back = loaded(tmp_path, pickle.dumps(value, protocol))
    assert same(back, value)
    assert back["twice"][0] is back["twice"][1]
    sets = loaded(tmp_path, pickle.dumps([{"a", "b"}, frozenset({1})], protocol))
    assert sets == [{"a", "b"}, {1}]
    assert loaded(tmp_path, pickle.dumps({0.5: 1, 0.9: 2}, protocol)) == {0.5: 1, 0.9: 2}
    assert pickles.loads(pickle.dumps(["a"], protocol), "x") == ["a"]


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_old_and_new_numpy_module_names(tmp_path: Path, protocol: int) -> None:
    value = [np.arange(3.0), np.float32(2)]
    data = pickle.dumps(value, protocol)
    assert b"numpy._core" in data
    if protocol >= 4:  # names carry their length there
        for module in ("multiarray", "numeric"):
            new, old = f"numpy._core.{module}".encode(), f"numpy.core.{module}".encode()
            data = data.replace(bytes([len(new)]) + new, bytes([len(old)]) + old)
        at = data.index(b"\x95")  # the frame got shorter
        data = data[:at] + b"\x95" + struct.pack("<Q", len(data) - at - 9) + data[at + 9 :]
    else:
        data = data.replace(b"numpy._core.", b"numpy.core.")
    assert b"numpy._core" not in data
    assert same(loaded(tmp_path, data), value)


class Calls:
    """Pickles as a call."""

    def __init__(self, function: object, *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple:
        return self.call


@pytest.mark.parametrize("protocol", range(6))
def test_code_is_refused_by_name_and_does_not_run(tmp_path: Path, protocol: int) -> None:
    trace = tmp_path / "ran"
    message = refusal(tmp_path, pickle.dumps({"a": Calls(os.mkdir, str(trace))}, protocol))
    assert f"{os.mkdir.__module__}.mkdir" in message and "nothing was run" in message
    assert not trace.exists()


def numpy_call(name: str, arguments: bytes, module: str = "numpy._core.multiarray") -> bytes:
    return b"\x80\x02c" + module.encode() + b"\n" + name.encode() + b"\n" + arguments + b"R."


RECONSTRUCT = b"cnumpy._core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\0\x85C\x01btR"
F8 = b"cnumpy\ndtype\n(X\x02\0\0\0f8I00\nI01\ntR"
HOSTILE = {
    "eval": (b"\x80\x02cbuiltins\neval\n(X\x04\0\0\x001+1ltR.", "builtins.eval"),
    "getattr by stack": (b"\x80\x04\x8c\x08builtins\x8c\x07getattr\x93.", "builtins.getattr"),
    "class instance": (b"(S'x'\nios\nsystem\n.", "os.system"),
    "new object": (b"\x80\x02cnumpy\nndarray\nK\x05\x85\x81.", "NEWOBJ"),
    "ndarray called": (b"\x80\x02cnumpy\nndarray\n\x8a\x06\xff\xff\xff\xff\xff\x7f\x85R.", "a call of a type"),
    "persistent id": (b"\x80\x02X\x01\0\0\0aQ.", "BINPERSID"),
    "extension": (b"\x80\x02\x82\x01.", "EXT1"),
    "dtype of functions": (numpy_call("dtype", b"(X\x02\0\0\0V8I00\nI01\nt", "numpy"), "dtype"),
    "structured dtype": (b"\x80\x02" + F8 + b"(K\x03X\x01\0\0\0<N(X\x01\0\0\0at}K\x08K\x01K\0tb.", "structured"),
    "claimed size": (
        b"\x80\x02" + RECONSTRUCT + b"(K\x01\x8a\x05\xff\xff\xff\xff\x7f\x85" + F8 + b"\x89C\x08" + bytes(8) + b"tb.",
        "does not fit its shape",
    ),
    "object pointers": (
        b"\x80\x02"
        + RECONSTRUCT
        + b"(K\x01K\x01\x85cnumpy\ndtype\n(X\x02\0\0\0O8I00\nI01\ntR\x89C\x08"
        + bytes(8)
        + b"tb.",
        "objects",
    ),
    "state for a list": (b"\x80\x02]}b.", "a state for a list"),
    "codec": (numpy_call("encode", b"(X\x01\0\0\0aX\x05\0\0\0rot13t", "_codecs"), "latin1"),
    "deep tuple as key": (b"\x80\x02}" + b")" + b"\x85" * 300_000 + b"Ns.", "a tuple as a key"),
    "an enormous number as a key": (pickle.dumps({2.0**61: 1}), "a float as a key"),
    "colliding keys": (b"\x80\x02}\x8a\x09" + b"\xff" * 8 + b"\x0fNs.", "a int as a key"),
    "array inside itself": (
        b"\x80\x02" + RECONSTRUCT + b"q\x01(K\x01K\x01\x85cnumpy\ndtype\n(X\x02\0\0\0O8I00\nI01\ntR\x89]h\x01atb.",
        "inside itself",
    ),
    "memo of four billion": (b"\x80\x02Nr\xff\xff\xff\xff0.", "damaged"),
    "claimed bytes": (b"\x80\x04\x8e" + struct.pack("<Q", 1 << 40) + b"a.", "damaged"),
    "claimed bytearray": (b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b"a.", "damaged"),
    "long number": (b"I" + b"9" * 100_000 + b"\n.", "damaged"),
    "nothing": (b"", "damaged"),
    "text": (b"hello world", "damaged"),
    "no end": (pickle.dumps([1, 2])[:-1], "damaged"),
    "empty stack": (b"\x80\x020.", "damaged"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_and_damaged_pickles_are_refused(tmp_path: Path, case: str) -> None:
    data, reason = HOSTILE[case]
    assert reason in refusal(tmp_path, data)


def test_names_in_a_pickle_cannot_dress_up_the_message(tmp_path: Path) -> None:
    name = "evil\x1b[31m" + "x" * 500
    data = b"\x80\x04" + b"".join(b"X" + struct.pack("<I", len(n)) + n.encode() for n in ("os", name)) + b"\x93."
    message = refusal(tmp_path, data)
    assert "\x1b" not in message and len(message) < 800


def test_the_machine_knows_every_opcode_it_may_meet() -> None:
    """Everything pickle itself writes for plain data; what is left calls code, or needs other files."""
    refused = {"NEWOBJ", "NEWOBJ_EX", "OBJ", "EXT1", "EXT2", "EXT4", "PERSID", "BINPERSID", "DUP"}
    refused |= {"NEXT_BUFFER", "READONLY_BUFFER"}
    handled = {name.removeprefix("do_").upper() for name in dir(pickles._Machine) if name.startswith("do_")}
    handled |= pickles._PUSHES | set(pickles._CONSTANTS) | {"PROTO", "FRAME", "STOP"}
    handled |= {f"{kind}{access}" for kind in ("", "BIN", "LONG_BIN") for access in ("GET", "PUT")}
    assert handled | refused == {opcode.name for opcode in pickletools.opcodes}
    assert not handled & refused


def test_arrays_are_views_on_the_loaded_bytes(tmp_path: Path) -> None:
    """No second copy: a pickle takes its own size in memory."""
    back = loaded(tmp_path, pickle.dumps(np.arange(1000.0), 4))
    assert not back.flags.owndata and not back.flags.writeable
