"""Claims: of several processes that want one answer, one asks and the others wait; a killed one holds nobody up."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from skag.backends import Message, Topic
from skag.dialogue.claims import Claims
from skag.dialogue.describe import describe
from skag.dialogue.prompts import load_prompts
from skag.dialogue.store import DialogueStore, Exchange
from skag.methods.skeleton_agent.script import SCRIPT
from skag.skeleton.layouts import load_layout

from .helpers.servers import ScriptedBackend, good_answer

KEY, OTHER = "a" * 64, "b" * 64
CLASSES = [f"action {number}" for number in range(6)]
LAYOUT = load_layout("kinect-v1")
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["tests.test_claims"])


def hold(path: Path, told: Connection) -> None:
    """Claim a question, say so, and hold on to it until killed."""
    claims = Claims(path)
    told.send(claims.take(KEY))
    time.sleep(600)


def describe_slowly(path: Path, log: Path, jobs: int) -> None:
    """Describe six classes by a backend that takes its time and writes down each question."""

    def answer(topic: Topic, messages: list[Message]) -> str:
        with log.open("a") as file:
            file.write(f"{topic.class_name} {topic.round}\n")
        time.sleep(0.01)
        return good_answer(topic, LAYOUT)

    with DialogueStore(path) as store:
        report = describe(ScriptedBackend(answer), store, CLASSES, LAYOUT, load_prompts(SCRIPT), jobs=jobs)
    assert report.failed == () and report.asked + report.cached == 30


def test_two_stores_of_one_process_share_their_claims(tmp_path: Path) -> None:
    with DialogueStore(tmp_path / "d.h5") as one, DialogueStore(tmp_path / "d.h5") as other:
        assert one._claims.take(KEY) and not other._claims.take(KEY)
        other.close()  # locks of a process end with any handle of the file
        sender, told = PROCESSES.Pipe()
        elsewhere = PROCESSES.Process(target=hold, args=(tmp_path / "d.h5.asking", told))
        elsewhere.start()
        assert sender.recv() is False
        elsewhere.kill()
        elsewhere.join()


def test_a_question_is_asked_by_one_at_a_time(tmp_path: Path) -> None:
    claims = Claims(tmp_path / "d.h5.asking")
    assert claims.take(KEY) and not claims.take(KEY) and claims.take(OTHER)
    claims.drop(KEY)
    assert claims.take(KEY)
    claims.close()
    assert (tmp_path / "d.h5.asking").stat().st_size == 0


@pytest.mark.skipif(os.name != "posix", reason="only POSIX locks bytes of a file")
def test_a_killed_process_holds_nobody_up(tmp_path: Path) -> None:
    told, tell = PROCESSES.Pipe(duplex=False)
    other = PROCESSES.Process(target=hold, args=(tmp_path / "asking", tell), daemon=True)
    other.start()
    assert told.poll(60) and told.recv()
    claims = Claims(tmp_path / "asking")
    assert not claims.take(KEY) and claims.take(OTHER)
    os.kill(other.pid, signal.SIGKILL)
    other.join()
    assert claims.take(KEY)
    claims.close()


@pytest.mark.skipif(os.name != "posix", reason="only POSIX locks bytes of a file")
@pytest.mark.parametrize("jobs", [1, 3])
def test_two_processes_that_describe_at_once_share_the_work(tmp_path: Path, jobs: int) -> None:
    path, log = tmp_path / "d.h5", tmp_path / "asked"
    both = [PROCESSES.Process(target=describe_slowly, args=(path, log, jobs)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    asked = log.read_text().splitlines()
    assert sorted(asked) == sorted(f"{name} {number}" for name in CLASSES for number in range(1, 6))
    assert len(DialogueStore(path)) == 30


def test_who_waits_gets_the_answer_of_the_one_who_asked(tmp_path: Path) -> None:
    store, wanted = DialogueStore(tmp_path / "d.h5"), Exchange(KEY, "set", "step", 1, {}, (), "", "It goes up.")
    got = []

    def wait() -> None:
        with store.asking(wanted.key) as stored:
            got.append(stored)

    with store.asking(wanted.key) as stored:
        assert stored is None
        waiting = threading.Thread(target=wait)
        waiting.start()
        store.add(wanted)
    waiting.join()
    assert got == [wanted]
    store.close()


def test_a_folder_where_nothing_may_be_written_leaves_the_reason_to_the_store(tmp_path: Path) -> None:
    claims = Claims(tmp_path / "file" / "asking")
    (tmp_path / "file").touch()
    assert claims.take(KEY)
    claims.drop(KEY)
