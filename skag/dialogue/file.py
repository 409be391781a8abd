"""What is in a dialogue store's HDF5 file, and how rows are written and read.

    /keys                uint8 [n, 32]    SHA-256 of each request
    /exchanges/numbers   float64 [n, 6]   columns `NUMBERS` (NaN = unknown)
    /exchanges/texts     int64 [n, 12]    columns `TEXTS`, as numbers of texts
    /messages            int64 [R, 2]     role and text of the messages of all exchanges, one after another
    /text/bytes, ends, digests            all distinct texts: concatenated UTF-8, where each ends, BLAKE2b-128

A text stands once however often later rounds repeat it as history, and nothing is an HDF5 object of its own:
many small objects are tens of times slower (h5py#2540).
"""

from __future__ import annotations

import hashlib
import json

import h5py
import numpy as np

from .exchanges import Exchange

FORMAT, VERSION = "skag-dialogues", 1
NUMBERS = ("round", "attempt", "tokens_in", "tokens_out", "seconds", "messages_end")
TEXTS = (
    "label_set", "class_name", "identity", "schema", "prompt_hash", "similar",
    "answer", "repaired", "thoughts", "details", "created", "notes",
)  # fmt: skip
JSON_TEXTS = frozenset({"identity", "schema", "similar", "details", "notes"})
ROLES = ("system", "user", "assistant")
DATASETS = (
    "keys", "exchanges/numbers", "exchanges/texts", "messages", "text/bytes", "text/ends", "text/digests",
)  # fmt: skip


def row_exchange(key: str, numbers: list[float], texts: list[str], messages: list[tuple[int, str]]) -> Exchange:
    """An exchange from its key, its row of numbers and its texts."""
    row = dict(zip(NUMBERS, numbers, strict=True))
    values = {name: json.loads(text) if name in JSON_TEXTS else text for name, text in zip(TEXTS, texts, strict=True)}
    tokens = {name: None if np.isnan(row[name]) else int(row[name]) for name in ("tokens_in", "tokens_out")}
    record = {
        **values,
        **tokens,
        "key": key,
        "round": int(row["round"]),
        "attempt": int(row["attempt"]),
        "seconds": row["seconds"],
        "messages": [{"role": ROLES[role], "content": text} for role, text in messages],
    }
    return Exchange.from_record(record)


def text_digest(text: bytes | memoryview) -> bytes:
    """By what a text is known again."""
    return hashlib.blake2b(text, digest_size=16).digest()


def append(file: h5py.File, exchanges: list[Exchange]) -> None:
    """Add rows to a store file that nobody else sees yet."""
    if "keys" not in file:
        _create(file)
    keys, digests = file["keys"][:].tobytes(), file["text/digests"][:].tobytes()
    held = {keys[i : i + 32] for i in range(0, len(keys), 32)}
    known = {digests[i : i + 16]: i // 16 for i in range(0, len(digests), 16)}
    parts: list[bytes] = []
    new_digests: list[bytes] = []

    def number_of(text: str) -> int:
        data = text.encode("utf-8", "surrogatepass")  # a file name of another encoding can be a class name
        digest = text_digest(data)
        if digest not in known:
            known[digest] = len(known)
            parts.append(data)
            new_digests.append(digest)
        return known[digest]

    new_keys, numbers, texts, messages = [], [], [], []
    messages_end = len(file["messages"])
    for exchange in exchanges:
        key = bytes.fromhex(exchange.key)
        if key in held:
            continue
        held.add(key)
        new_keys.append(key)
        messages += [(ROLES.index(message["role"]), number_of(message["content"])) for message in exchange.messages]
        values = {**exchange.to_record(), "messages_end": messages_end + len(messages)}
        numbers.append([np.nan if values[name] is None else values[name] for name in NUMBERS])
        texts.append(
            [
                number_of(json.dumps(values[name], sort_keys=True) if name in JSON_TEXTS else values[name])
                for name in TEXTS
            ]
        )
    text_end = int(file["text/ends"][-1]) if len(file["text/ends"]) else 0
    _extend(file["text/bytes"], np.frombuffer(b"".join(parts), "u1"))
    _extend(file["text/ends"], text_end + np.cumsum([len(part) for part in parts], dtype="i8"))
    _extend(file["text/digests"], np.frombuffer(b"".join(new_digests), "u1").reshape(-1, 16))
    _extend(file["messages"], np.array(messages, "i8").reshape(-1, 2))
    _extend(file["exchanges/numbers"], np.array(numbers, "f8").reshape(-1, len(NUMBERS)))
    _extend(file["exchanges/texts"], np.array(texts, "i8").reshape(-1, len(TEXTS)))
    _extend(file["keys"], np.frombuffer(b"".join(new_keys), "u1").reshape(-1, 32))


def _create(file: h5py.File) -> None:
    def growing(name: str, dtype: str, *tail: int, rows: int = 4096) -> h5py.Dataset:
        # Fletcher32: a disk's bit rot is an error when read, not another answer.
        return file.create_dataset(
            name, (0, *tail), dtype, maxshape=(None, *tail), chunks=(rows, *tail), fletcher32=True
        )

    growing("keys", "u1", 32)
    growing("exchanges/numbers", "f8", len(NUMBERS), rows=1024).attrs["columns"] = json.dumps(NUMBERS)
    growing("exchanges/texts", "i8", len(TEXTS), rows=1024).attrs["columns"] = json.dumps(TEXTS)
    growing("messages", "i8", 2).attrs["roles"] = json.dumps(ROLES)
    growing("text/bytes", "u1", rows=1 << 16)
    growing("text/ends", "i8")
    growing("text/digests", "u1", 16)
    file.attrs.update(format=FORMAT, version=VERSION)


def _extend(data: h5py.Dataset, rows: np.ndarray) -> None:
    if len(rows):
        data.resize(len(data) + len(rows), axis=0)
        data[-len(rows) :] = rows
