"""The dialogue store: nothing is lost, doubled or overwritten, whoever is killed and whatever is in the file.

The kill test kills 25 writers; `SKAG_KILLS=200 pytest tests/test_dialogues.py` is its long form.
"""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import random
import shutil
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skag.dialogue import file as dialogue_file
from skag.dialogue import journal
from skag.dialogue import store as dialogues
from skag.dialogue.store import DialogueStore, Exchange, exchange_key, label_set_id
from skag.errors import DialogueError, cause
from skag.skeleton.layouts import load_layout

from .helpers.exchanges import numbered_exchange

KILLS = int(os.environ.get("SKAG_KILLS", "25"))
# Writers that are killed are forked from a server that has imported everything, and so start in milliseconds.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["tests.test_dialogues"])


def keys_on_disk(path: Path) -> list[str]:
    """Keys of the HDF5 file, duplicates and all."""
    if not path.exists():
        return []
    with h5py.File(path, locking=False) as file:
        return [row.tobytes().hex() for row in file["keys"]]


# ---- what is kept


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_what_is_stored_is_read_back(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    text = st.text(st.characters(), max_size=30)  # surrogates, NUL and all
    path = tmp_path_factory.mktemp("store") / "d.h5"
    stored = []
    for number in range(data.draw(st.integers(1, 6))):
        values = {name: data.draw(text) for name in ("answer", "repaired", "thoughts", "class_name", "created")}
        values |= {"notes": tuple(data.draw(st.lists(text, max_size=2))), "details": {data.draw(text): [1.5, None]}}
        values |= {"similar": (data.draw(text),), "schema": data.draw(st.sampled_from([None, {"type": "object"}]))}
        values |= {
            "tokens_out": data.draw(st.none() | st.integers(0, 1 << 40)),
            "attempt": data.draw(st.integers(0, 2)),
        }
        stored.append(replace(numbered_exchange(number), **values))
    with DialogueStore(path) as store:
        for item in stored:
            store.add(item)
        assert store.find() == stored  # from the journal
    store = DialogueStore(path)
    assert store.find() == stored  # from the HDF5 file
    assert [store.get(item.key) for item in stored] == stored


def test_a_text_stands_once_however_often_it_is_repeated(tmp_path: Path) -> None:
    with DialogueStore(tmp_path / "d.h5") as store:
        store.add_all([numbered_exchange(n, answer="A long answer. " * 50) for n in range(60)])
    with h5py.File(tmp_path / "d.h5") as file:
        assert file["text/bytes"][:].tobytes().count(b"A long answer. " * 50) == 1
        assert len(np.unique(file["text/digests"][:], axis=0)) == len(file["text/ends"])


def test_an_answer_stored_first_stays(tmp_path: Path) -> None:
    one, two = DialogueStore(tmp_path / "d.h5"), DialogueStore(tmp_path / "d.h5")
    first, second = numbered_exchange(1, "first"), numbered_exchange(1, "second")
    assert one.add(first) == first
    assert two.add(second) == first and len(two) == 1
    one.close()
    assert (
        two.add(second) == first
        and two.add_all([second, numbered_exchange(2), numbered_exchange(2)])[1:] == [numbered_exchange(2)] * 2
    )
    assert len(two) == len(one) == 2


def test_find_chooses_by_class_and_round(tmp_path: Path) -> None:
    items = [numbered_exchange(n) for n in range(70)]
    store = DialogueStore(tmp_path / "d.h5")
    for item in items:
        store.add(item)  # some are in the HDF5 file by now, some in the journal
    assert keys_on_disk(store.path) and len(keys_on_disk(store.path)) < 70
    found = store.find(class_names={"class 1", "nobody"}, rounds=[2, 5])
    assert found == [item for item in items if item.class_name == "class 1" and item.round in (2, 5)]
    assert store.find(class_names=[]) == []


def test_stores_see_what_others_add_and_fold(tmp_path: Path) -> None:
    one, two = DialogueStore(tmp_path / "d.h5"), DialogueStore(tmp_path / "d.h5")
    for number in range(0, 130, 2):
        one.add(numbered_exchange(number))
        assert two.get(numbered_exchange(number).key) == numbered_exchange(number)
        two.add(numbered_exchange(number + 1))
        if number % 26 == 0:
            (one if number % 4 else two).fold()
        assert len(one) == len(two) == number + 2


def test_nothing_is_created_before_there_is_something_to_keep(tmp_path: Path) -> None:
    with DialogueStore(tmp_path / "sub" / "d.h5") as store:
        assert len(store) == 0 and store.get("0" * 64) is None and store.find() == []
    assert list(tmp_path.iterdir()) == []


def test_a_store_that_is_closed_is_one_file(tmp_path: Path) -> None:
    with DialogueStore(tmp_path / "d.h5") as store:
        store.add(numbered_exchange(1))
    assert {path.name for path in tmp_path.iterdir()} == {"d.h5", "d.h5.lock"}


def test_threads_add_and_read_at_once(tmp_path: Path) -> None:
    store = DialogueStore(tmp_path / "d.h5")
    wrong = []

    def work(start: int) -> None:
        for number in range(start, start + 40):
            store.add(numbered_exchange(number))
            if store.get(numbered_exchange(number).key) != numbered_exchange(number):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(20 * i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    store.close()
    assert not wrong and sorted(keys_on_disk(store.path)) == sorted(numbered_exchange(n).key for n in range(100))


# ---- kill -9


def write_until_killed(path: Path, start: int, told: Connection, fold_every: int) -> None:
    """Add exchanges, telling of each that is kept."""
    store = DialogueStore(path)
    for number in range(start, start + 100_000):
        store.add(numbered_exchange(number))
        told.send(number)
        if number % fold_every == 0:
            store.fold()


def received(told: Connection) -> set[int]:
    numbers = set()
    try:
        while told.poll():
            numbers.add(told.recv())
    except EOFError:
        pass
    return numbers


def test_a_writer_killed_at_any_time_loses_and_doubles_nothing(tmp_path: Path) -> None:
    path, chance = tmp_path / "d.h5", random.Random(0)
    kept: set[int] = set()
    for kill in range(KILLS):
        if kill % 20 == 0:  # a fresh store, so that the long form stays short
            path = tmp_path / f"d{kill}.h5"
            kept = set()
        told, tell = PROCESSES.Pipe(duplex=False)
        writer = PROCESSES.Process(
            target=write_until_killed, args=(path, 1000 * kill, tell, chance.choice((3, 7, 10**9)))
        )
        writer.start()
        tell.close()
        assert told.poll(60)
        time.sleep(chance.uniform(0, 0.12))
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
        kept |= received(told)
        told.close()
        store = DialogueStore(path)
        lost = [number for number in kept if store.get(numbered_exchange(number).key) != numbered_exchange(number)]
        on_disk = keys_on_disk(path)
        assert not lost
        assert len(on_disk) == len(set(on_disk))
        assert len(kept) <= len(store) <= len(kept) + kill % 20 + 1  # and at most one in flight per kill
        assert len(store.find()) == len(store)


def crash(path: Path, where: str) -> None:
    """Add 10 exchanges, kept, and die in the middle of what follows."""
    store = DialogueStore(path)
    store.add_all([numbered_exchange(number) for number in range(10)])

    def die(*args: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    real_write, real_replace = os.write, os.replace
    if where == "half a line":
        os.write = lambda handle, data: (real_write(handle, data[: len(data) // 2]), die())
        store.add(numbered_exchange(10))
    elif where == "a line without its end":
        os.write = lambda handle, data: (real_write(handle, data[:-1]), die())
        store.add(numbered_exchange(10))
    elif where == "before the rename":
        os.replace = die
    elif where == "after the rename":
        os.replace = lambda *paths: (real_replace(*paths), die())
    elif where == "in the HDF5 file":
        dialogue_file._extend = die
    store.fold()


@pytest.mark.parametrize(
    "where",
    ["half a line", "a line without its end", "before the rename", "after the rename", "in the HDF5 file"],
)
def test_a_writer_killed_at_the_worst_of_times(tmp_path: Path, where: str) -> None:
    path = tmp_path / "d.h5"
    writer = PROCESSES.Process(target=crash, args=(path, where))
    writer.start()
    writer.join()
    assert writer.exitcode == -signal.SIGKILL
    assert DialogueStore(path).find() == [numbered_exchange(number) for number in range(10)]
    with DialogueStore(path) as store:  # and it goes on as if nothing had been
        assert store.add(numbered_exchange(10)) == numbered_exchange(10)
        assert len(store) == 11
    assert keys_on_disk(path) == [numbered_exchange(number).key for number in range(11)]
    assert {left.name for left in tmp_path.iterdir()} == {"d.h5", "d.h5.lock"}


def write_some(path: Path, numbers: range, answer: str) -> None:
    with DialogueStore(path) as store:
        for number in numbers:
            store.add(numbered_exchange(number, f"{answer} {number}"))


def test_two_processes_that_write_at_once_end_with_all(tmp_path: Path) -> None:
    path = tmp_path / "d.h5"
    work = [(range(0, 150), "one"), (range(100, 250), "two")]
    writers = [PROCESSES.Process(target=write_some, args=(path, *each)) for each in work]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert sorted(keys_on_disk(path)) == sorted(numbered_exchange(number).key for number in range(250))
    answers = {item.messages[-1]["content"]: item.answer for item in DialogueStore(path).find()}
    assert all(answers[f"What is {n}?"] in (f"one {n}", f"two {n}") for n in range(250))


def test_a_full_disk_is_one_line_and_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = DialogueStore(tmp_path / "d.h5")
    store.add(numbered_exchange(1))
    real = os.write

    def full(handle: int, data: bytes) -> int:
        real(handle, data[:20])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(journal.os, "write", full)
    with pytest.raises(DialogueError, match=r"No space left.*all answers stored before are safe"):
        store.add(numbered_exchange(2))
    monkeypatch.undo()
    assert store.find() == DialogueStore(store.path).find() == [numbered_exchange(1)]
    assert store.add(numbered_exchange(2)) == numbered_exchange(2) and len(DialogueStore(store.path)) == 2


def test_a_disk_too_full_for_the_file_is_seen_before_hdf5_writes(tmp_path: Path, monkeypatch) -> None:
    whole = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(dialogues.shutil, "disk_usage", lambda _: whole._replace(free=10**5))
    monkeypatch.setattr(dialogues.h5py, "File", lambda *_: pytest.fail("HDF5 was let write"))
    store = DialogueStore(tmp_path / "d.h5")
    store.add(numbered_exchange(1))
    with pytest.raises(DialogueError, match=r"cannot be written \(No space left on device\).*are safe"):
        store.close()
    monkeypatch.undo()
    assert DialogueStore(store.path).find() == [numbered_exchange(1)]


def test_a_folder_is_no_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for path in (tmp_path, "", "."):
        with pytest.raises(DialogueError, match=r"is a folder: name the store's file, such as .*dialogues\.h5"):
            DialogueStore(path)


def test_hdf5s_own_words_are_made_short() -> None:
    words = "Can't close file (file write failed: time = Sat\n, errno = 28, error message = 'No space left', buf = 0x5)"
    assert cause(OSError(words)) == cause(RuntimeError(words)) == "No space left"
    assert cause(OSError(errno.EISDIR, words)) == os.strerror(errno.EISDIR)
    assert cause(ValueError("two\n lines")) == "two lines"


def test_a_fold_that_fails_keeps_the_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object) -> None:
        raise RuntimeError("HDF5 cannot write")

    monkeypatch.setattr(dialogues, "append", fail)
    store = DialogueStore(tmp_path / "d.h5")
    for number in range(60):  # more than are folded at once
        store.add(numbered_exchange(number))
    with pytest.raises(DialogueError, match="HDF5 cannot write"):
        store.close()
    monkeypatch.undo()
    assert len(DialogueStore(store.path)) == 60
    assert {path.name for path in tmp_path.iterdir()} == {"d.h5.journal", "d.h5.lock"}


def test_a_lock_that_is_never_let_go_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dialogues, "LOCK_TIMEOUT", 0.05)
    one, two = DialogueStore(tmp_path / "d.h5"), DialogueStore(tmp_path / "d.h5")
    with one._locked(), pytest.raises(DialogueError, match=r"d\.h5\.lock has been held by another skag"):
        two.add(numbered_exchange(1))


# ---- damaged and foreign files


def stored(path: Path) -> bytes:
    with DialogueStore(path) as store:
        store.add_all([numbered_exchange(number) for number in range(5)])
    return path.read_bytes()


def foreign(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["x"] = 1


def newer(path: Path) -> None:
    stored(path)
    with h5py.File(path, "a") as file:
        file.attrs["version"] = 99


def bad_utf8(path: Path) -> None:
    stored(path)
    with h5py.File(path, "a") as file:
        file["text/bytes"][:] = 0xFF


def bad_numbers(path: Path) -> None:
    stored(path)
    with h5py.File(path, "a") as file:
        file["exchanges/texts"][:] = 10**6


def rotten(path: Path) -> None:
    data = stored(path)
    path.write_bytes(data.replace(b"Answer 3 with", b"Answer 4 with"))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: path.write_bytes(b""), "no readable"),
        (lambda path: path.write_text("not HDF5"), "no readable"),
        (lambda path: path.write_bytes(stored(path)[:-500]), "no readable"),
        (foreign, "no dialogue store"),
        (newer, "newer skag"),
        (bad_utf8, "no readable"),
        (bad_numbers, "no readable"),
        (rotten, "no readable"),
        (lambda path: path.mkdir(), "is a folder"),
    ],
)
def test_a_file_that_is_no_store_is_told_of_and_left_alone(
    tmp_path: Path, make: Callable[[Path], object], said: str
) -> None:
    path = tmp_path / "d.h5"
    make(path)
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(DialogueError, match=said) as caught:
        store = DialogueStore(path)
        store.find()
        store.add(numbered_exchange(9))
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    assert before is None or path.read_bytes() == before


@pytest.mark.parametrize(
    "damage",
    [
        lambda lines: [b"some notes of mine\n"],
        lambda lines: [b"no line end"],
        lambda lines: [lines[0], b"{}\n", *lines[1:]],
        lambda lines: [lines[0], lines[1].replace(b"Answer 0", b"Answer 9"), lines[2]],
        lambda lines: [lines[0], b'["00000000",' + b"[" * 100_000 + b"\n", lines[1]],
        lambda lines: [lines[0], lines[1][:-9] + b"\n"],
    ],
)
def test_a_damaged_journal_is_told_of_and_left_alone(tmp_path: Path, damage: Callable) -> None:
    path = tmp_path / "d.h5.journal"
    DialogueStore(tmp_path / "d.h5").add_all([numbered_exchange(0), numbered_exchange(1)])
    path.write_bytes(b"".join(damage(path.read_bytes().splitlines(keepends=True))))
    before = path.read_bytes()
    with pytest.raises(DialogueError, match=r"d\.h5\.journal is (damaged|no journal)") as caught:
        DialogueStore(tmp_path / "d.h5").add(numbered_exchange(2))
    assert "\n" not in str(caught.value) and path.read_bytes() == before


@pytest.mark.parametrize("tail", [b'["0012', b"\0\0\0\0", b'["0012\0\0\0\n'])
def test_a_torn_last_line_is_ignored_and_written_over(tmp_path: Path, tail: bytes) -> None:
    DialogueStore(tmp_path / "d.h5").add(numbered_exchange(0))
    path = tmp_path / "d.h5.journal"
    path.write_bytes(path.read_bytes() + tail)
    store = DialogueStore(tmp_path / "d.h5")
    assert store.find() == [numbered_exchange(0)]
    store.add(numbered_exchange(1))
    assert DialogueStore(tmp_path / "d.h5").find() == [numbered_exchange(0), numbered_exchange(1)]
    assert tail not in path.read_bytes()


def test_a_store_in_a_folder_one_may_not_write_to_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    DialogueStore(tmp_path / "d.h5").add(numbered_exchange(0))  # left in the journal
    monkeypatch.setattr(dialogues.os, "access", lambda *args: False)
    with DialogueStore(tmp_path / "d.h5") as store:
        assert store.find() == [numbered_exchange(0)]
    assert (tmp_path / "d.h5.journal").exists()


# ---- names


def test_the_key_is_of_everything_that_shapes_the_answer() -> None:
    identity, messages = {"backend": "b", "options": {"seed": 1}}, [{"role": "user", "content": "q"}]
    key = exchange_key(identity, messages)
    assert key == exchange_key({"options": {"seed": 1}, "backend": "b"}, tuple(messages), None)
    others = [
        exchange_key({"backend": "b", "options": {}}, messages),
        exchange_key({"backend": "b", "options": {"seed": None}}, messages),
        exchange_key(identity, [{"role": "system", "content": "q"}]),
        exchange_key(identity, [*messages, *messages]),
        exchange_key(identity, messages, {}),
    ]
    assert len({key, *others}) == 6 and len(key) == 64


def test_a_label_set_is_its_classes_and_joints() -> None:
    ntu, kinect = load_layout("nturgb+d"), load_layout("kinect-v1")
    ids = [label_set_id(*args) for args in ((["a", "b"], ntu), (["b", "a"], ntu), (["ab"], ntu), (["a", "b"], kinect))]
    assert len(set(ids)) == 4 and ids[0] == label_set_id(("a", "b"), ntu)


def test_records_are_plain_json_and_come_back() -> None:
    item = numbered_exchange(4, notes=("rejected: too long",), similar=("a", "b"), attempt=1)
    assert Exchange.from_record(json.loads(json.dumps(item.to_record()))) == item
    assert item.rejected == "too long" and numbered_exchange(4).rejected is None
