"""Loads pickles of strangers: numpy arrays, numbers, text and plain containers, and nothing else.

`pickle.load` runs whatever a file names, and also a restricted `find_class` leaves ways to crash or exhaust a
process: a memo index of four billion, an array or buffer size that is only claimed, a dtype whose state makes numpy
read object pointers out of raw bytes, tuples nested a million deep used as a key. Here the opcodes (decoded by the
standard library's `pickletools`) drive a small machine that knows the few steps of plain data. It calls nothing by
name: the handful of numpy's own reconstruction functions are stood in for by functions of this module, which check
every size against the bytes that are really there. Whatever else a file asks for is refused by its name.

Arrays are views on the bytes of the pickle, not copies, hence not writable. The memory needed is the size of the
file and a little more.
"""

from __future__ import annotations

import io
import math
import os
import pickletools
import re
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

import numpy as np

from ..errors import DataError
from .archives import printable

_DTYPE = re.compile(r"([<>|=]?)([biufcSUO?])(\d{0,5})")
_LARGEST_KEY = 1 << 60  # beyond it integers can be made to collide in a dictionary at will
_MARK = object()


class _Refused(Exception):
    """The pickle asks for what is no plain data; `str()` says what."""


class _DType:
    """Stands for a dtype while its state is still to come."""

    def __init__(self, spec: object, *_: object) -> None:
        match = _DTYPE.fullmatch(spec.decode("latin1") if isinstance(spec, bytes) else str(spec))
        if not match:
            raise _Refused(f"a numpy dtype {printable(str(spec), 40)!r}")
        self.order, self.code = match[1] or "=", match[2] + match[3]

    def set_state(self, state: object) -> None:
        """`state` is (version, byte order, subarray, names, fields, ...); structured types are refused."""
        if not isinstance(state, tuple) or len(state) < 5 or state[2:5] != (None, None, None):
            raise _Refused("a structured numpy dtype")
        order = state[1].decode("latin1") if isinstance(state[1], bytes) else state[1]
        if order not in ("<", ">", "|", "="):
            raise _Refused("a numpy dtype of unknown byte order")
        self.order = order

    def dtype(self) -> np.dtype:
        return np.dtype("O") if self.code[0] == "O" else np.dtype(self.order + self.code)


class _Array:
    """Stands for an array while its state is still to come."""

    def __init__(self) -> None:
        self.value: np.ndarray | None = None

    def set_state(self, state: object) -> None:
        """`state` is (version, shape, dtype, is_fortran, bytes or list); the version is absent in old files."""
        if not isinstance(state, tuple) or len(state) not in (4, 5):
            raise _Refused("a numpy array of unknown state")
        shape, dtype, fortran, data = state[-4:]
        self.value = _array(data, dtype, shape, "F" if fortran else "C")


def _array(data: Any, dtype: object, shape: object, order: str) -> np.ndarray:
    if not isinstance(dtype, _DType) or not isinstance(shape, tuple) or order not in ("C", "F"):
        raise _Refused("a numpy array of unknown state")
    if not all(isinstance(n, int) and 0 <= n < 1 << 48 for n in shape) or len(shape) > 32:
        raise _Refused("a numpy array of impossible shape")
    wanted, size = dtype.dtype(), math.prod(shape)
    if wanted.hasobject:
        if not isinstance(data, list) or len(data) != size:
            raise _Refused("an array of objects that does not fit its shape")
        array = np.empty(size, object)
        for i, item in enumerate(data):  # item by item: numpy would look into nested lists
            array[i] = item
        return array.reshape(shape)  # the list goes by rows, whatever the order in memory was
    if isinstance(data, str):
        data = data.encode("latin1")  # Python 2 wrote bytes as text
    if not isinstance(data, bytes | bytearray) or len(data) != size * wanted.itemsize or not wanted.itemsize:
        raise _Refused("a numpy array that does not fit its shape")
    return (
        np.frombuffer(data, wanted).reshape(shape, order="F" if order == "F" else "C")
        if size
        else np.empty(shape, wanted)
    )


def _reconstruct(subtype: object, shape: object, code: object) -> _Array:
    if subtype is not np.ndarray:
        raise _Refused("an array type other than numpy's own")
    return _Array()


def _scalar(dtype: object, data: object = None) -> np.generic:
    if not isinstance(dtype, _DType) or dtype.code[0] == "O":
        raise _Refused("a numpy scalar of unknown type")
    return _array(data, dtype, (1,), "C")[0]


def _encode(text: object, encoding: object = None) -> bytes:
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise _Refused("text in an encoding other than latin1")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    """Protocols 0 to 2 write empty bytes as a call of `bytes` without arguments."""
    return b""


def _pairs(items: object = ()) -> OrderedDict:
    result: OrderedDict = OrderedDict()
    if not isinstance(items, list | tuple):
        raise _Refused("an ordered dictionary of unknown state")
    for item in items:
        if not isinstance(item, list | tuple) or len(item) != 2:
            raise _Refused("an ordered dictionary of unknown state")
        result[_key(item[0])] = item[1]
    return result


def _set(items: object = ()) -> set:
    if not isinstance(items, list | tuple):
        raise _Refused("a set of unknown state")
    return {_key(item) for item in items}


# What a pickle may name, and what stands for it. `np.ndarray` is never called: it is only compared with.
_NAMES: dict[str, Any] = {
    "numpy.ndarray": np.ndarray,
    "numpy.dtype": _DType,
    "_codecs.encode": _encode,
    "collections.OrderedDict": _pairs,
    **{
        f"{module}.{name}": function
        for module in ("builtins", "__builtin__")
        for name, function in {"set": _set, "frozenset": _set, "bytes": _no_bytes}.items()
    },
    **{
        f"numpy.{core}.{name}": function
        for core in ("core", "_core")
        for name, function in {
            "multiarray._reconstruct": _reconstruct,
            "multiarray.scalar": _scalar,
            "numeric._frombuffer": _array,
        }.items()
    },
}


_CALLABLE = frozenset(id(value) for value in _NAMES.values() if value is not np.ndarray)


def _finished(value: object) -> Any:
    """What the memo holds, with an array in place of its stand-in."""
    if not isinstance(value, _Array):
        return value
    if value.value is None:
        raise _Refused("an array inside itself")
    return value.value


def _key(value: object) -> Any:
    """A dictionary key or member of a set: text, bytes or a moderate number (Kinetics has thresholds as keys).

    Hashing a deeply nested tuple would exhaust the C stack.
    """
    if isinstance(value, str | bytes) or value is None or (isinstance(value, int) and abs(value) < _LARGEST_KEY):
        return value
    if isinstance(value, float) and 1e-6 < abs(value) < 1e6:  # hashes of others can be made to collide
        return value
    raise _Refused(f"a {type(value).__name__} as a key")


class _Machine:
    """The stack, the memo and the opcodes of plain data."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self, operations: Iterator[tuple[Any, Any, Any]]) -> Any:
        table: dict[str, Callable[[Any], None]] = {}
        push, constants = self.stack.append, _CONSTANTS
        for opcode, argument, _ in operations:
            name = opcode.name
            if name in _PUSHES:
                push(argument)
            elif name in constants:
                push(constants[name])
            elif name in ("BINGET", "LONG_BINGET", "GET"):
                push(_finished(self.memo[int(argument)]))
            elif name in ("BINPUT", "LONG_BINPUT", "PUT"):
                self.memo[int(argument)] = self.stack[-1]
            elif name not in ("PROTO", "FRAME", "STOP"):
                step = table.get(name)
                if step is None:
                    step = table[name] = getattr(self, f"do_{name.lower()}", None) or self._unknown(name)
                step(argument)
        (result,) = self.stack
        return result

    @staticmethod
    def _unknown(name: str) -> Callable[[Any], None]:
        raise _Refused(f"the instruction {name}")

    def _since_mark(self) -> list[Any]:
        for i in range(len(self.stack) - 1, -1, -1):
            if self.stack[i] is _MARK:
                items = self.stack[i + 1 :]
                del self.stack[i:]
                return items
        raise IndexError("no mark")

    def do_mark(self, _: Any) -> None:
        self.stack.append(_MARK)

    def do_pop(self, _: Any) -> None:
        self.stack.pop()

    def do_pop_mark(self, _: Any) -> None:
        self._since_mark()

    def do_memoize(self, _: Any) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def do_empty_list(self, _: Any) -> None:
        self.stack.append([])

    def do_empty_dict(self, _: Any) -> None:
        self.stack.append({})

    def do_empty_set(self, _: Any) -> None:
        self.stack.append(set())

    def do_list(self, _: Any) -> None:
        self.stack.append(self._since_mark())

    def do_dict(self, _: Any) -> None:
        self._set_items({}, self._since_mark())

    def do_frozenset(self, _: Any) -> None:
        self.stack.append(_set(self._since_mark()))

    def do_tuple(self, _: Any) -> None:
        self.stack.append(tuple(self._since_mark()))

    def do_tuple1(self, _: Any) -> None:
        self._tuple(1)

    def do_tuple2(self, _: Any) -> None:
        self._tuple(2)

    def do_tuple3(self, _: Any) -> None:
        self._tuple(3)

    def _tuple(self, size: int) -> None:
        self.stack[-size:] = [tuple(self.stack[-size:])]

    def do_append(self, _: Any) -> None:
        item = self.stack.pop()
        self._list(self.stack[-1]).append(item)

    def do_appends(self, _: Any) -> None:
        items = self._since_mark()
        self._list(self.stack[-1]).extend(items)

    @staticmethod
    def _list(value: object) -> list:
        if not isinstance(value, list):
            raise _Refused(f"an append to a {type(value).__name__}")
        return value

    def do_setitem(self, _: Any) -> None:
        items = self.stack[-2:]
        del self.stack[-2:]
        self._set_items(self.stack.pop(), items)

    def do_setitems(self, _: Any) -> None:
        items = self._since_mark()
        self._set_items(self.stack.pop(), items)

    def _set_items(self, target: object, items: list[Any]) -> None:
        if not isinstance(target, dict) or len(items) % 2:
            raise _Refused(f"items for a {type(target).__name__}")
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[_key(key)] = value
        self.stack.append(target)

    def do_additems(self, _: Any) -> None:
        items = self._since_mark()
        if not isinstance(self.stack[-1], set):
            raise _Refused(f"members for a {type(self.stack[-1]).__name__}")
        self.stack[-1].update(map(_key, items))

    def do_global(self, argument: str) -> None:
        self._name(*argument.split(" ", 1))

    def do_stack_global(self, _: Any) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self._name(module, name)

    def do_inst(self, argument: str) -> None:
        self.do_global(argument)

    def _name(self, module: object, name: object) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise _Refused("a name that is no text")
        full = f"{module}.{name}"
        if full not in _NAMES:
            raise _Refused(f"{full}")
        self.stack.append(_NAMES[full])

    def do_reduce(self, _: Any) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if id(function) not in _CALLABLE:
            raise _Refused(f"a call of a {type(function).__name__}")
        if not isinstance(arguments, tuple) or len(arguments) > 4:
            raise _Refused("a call with unknown arguments")
        self.stack.append(function(*arguments))

    def do_build(self, _: Any) -> None:
        state = self.stack.pop()
        target = self.stack[-1]
        if not isinstance(target, _DType | _Array):
            raise _Refused(f"a state for a {type(target).__name__}")
        target.set_state(state)
        if isinstance(target, _Array):
            self.stack[-1] = target.value  # the memo goes on holding the stand-in, see `_finished`


_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_PUSHES = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8", "STRING", "BINSTRING", "SHORT_BINSTRING"),
    *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
}


class _Bytes:
    """A file for `pickletools`: a length that is only claimed reserves no memory."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._size = file, size
        self.readline = file.readline

    def read(self, size: int) -> bytes:
        if size > 1 << 16 and size > self._size - self._file.tell():
            raise EOFError("more bytes are claimed than there are")
        return self._file.read(size)


def load(path: Path) -> Any:
    """The plain data in a pickle. Raises `DataError` that names what is refused, or says where the file is damaged.

    Arrays are read-only; sets come as `set`. Only the first object of the file is read.
    """
    with path.open("rb") as file:
        return _loaded(_Bytes(file, os.fstat(file.fileno()).st_size), printable(str(path), 400))


def loads(data: bytes, shown: str) -> Any:
    """The same for the bytes of a pickle; `shown` is its name in messages."""
    return _loaded(_Bytes(io.BytesIO(data), len(data)), shown)


def _loaded(file: _Bytes, shown: str) -> Any:
    try:
        return _Machine().run(pickletools.genops(cast(IO[bytes], file)))  # it reads and asks for lines, no more
    except _Refused as what:
        raise DataError(
            f"{shown} holds {printable(str(what), 200)}, which skag does not load from a pickle (nothing was run): "
            "only numpy arrays, numbers, text, lists and dictionaries are; write it anew with these."
        ) from None
    except MemoryError:
        raise DataError(f"{shown} does not fit into memory: a pickle has to be loaded whole; split it.") from None
    except Exception as error:  # damaged bytes end in nearly any exception
        reason = printable(str(error) or type(error).__name__, 100)
        raise DataError(f"{shown} is no pickle, or a truncated or damaged one ({reason}); copy it again.") from None
