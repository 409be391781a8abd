"""Pictures of actions: which are asked about, how they go to a server, and what is kept of them."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from skag.backends import Topic, open_backend
from skag.backends.base import Picture
from skag.dialogue import frames
from skag.dialogue.exchanges import exchange_key
from skag.dialogue.store import DialogueStore
from skag.errors import BackendError, DialogueError
from skag.methods.sugar.script import SEEN
from skag.text.open_clip_images import prepared

from .helpers.commands import document, failure
from .helpers.servers import serve
from .helpers.tiny import CLASSES, write_tiny_store

SAID = "A person raises a hand."
PAIR = ("--frames-by", "pixels", "--frames-per-class", 2)


def picture(seed: int, size: tuple[int, int] = (40, 30)) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (*size[::-1], 3), np.uint8))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A tiny store and three frames of every class, two of them alike."""
    write_tiny_store(tmp_path / "t.h5")
    for k, name in enumerate(CLASSES):
        below = tmp_path / "frames" / name.replace(" ", "_") / "clip"
        below.mkdir(parents=True)
        for number, seed in enumerate((2 * k, 2 * k, 2 * k + 1)):
            picture(seed).save(below / f"{number}.png")
    return tmp_path


def asked(folder: Path, address: str, llm: str = "vllm/tiny", *more: object) -> list[object]:
    """The command that asks about two frames of every class."""
    command = ["describe", folder / "t.h5", "--method", "sugar", "--llm", llm, "--base-url", address, *more]
    return [*command, "--store", folder / "d.h5", "--frames", folder / "frames", *PAIR]


# ---------------------------------------------------------------- which


def test_the_least_alike_are_chosen() -> None:
    angles = np.radians([0, 5, 90, 100, 45, 180])
    vectors = np.stack([np.cos(angles), np.sin(angles)], 1) * np.array([[1], [2], [3], [1], [1], [1]])
    assert frames.least_alike(vectors, 2) == [0, 5]  # opposite
    assert frames.least_alike(vectors, 3) == [0, 2, 5]  # at a right angle to both
    assert frames.least_alike(vectors, 4) == [0, 2, 4, 5]  # 45 degrees from the nearest, 100 only 10
    assert frames.least_alike(vectors, 9) == [0, 1, 2, 3, 4, 5]
    assert frames.least_alike(vectors[:1], 3) == [0]


def test_a_picture_is_scaled_and_cut_as_clip_does() -> None:
    white = prepared(Image.new("RGB", (60, 30), "white"), 16)
    assert white.shape == (3, 16, 16) and white.dtype == np.float32
    np.testing.assert_allclose(white[0], (1 - 0.48145466) / 0.26862954, rtol=1e-6)
    wide = Image.new("RGB", (64, 16))
    wide.paste((255, 0, 0), (24, 0, 40, 16))  # the middle is red
    found = prepared(wide, 16)
    assert (found[0, :, 2:14] > 1.5).all() and (found[2] < -1).all()


def test_what_is_sent_is_small_and_known_by_its_hash() -> None:
    sent = frames.as_sent(picture(1, (2000, 1000)))
    with Image.open(io.BytesIO(sent.data)) as opened:
        assert opened.format == "JPEG" and opened.size == (768, 384)
    assert sent.mark == f"[picture sha256:{sent.digest}]" and sent.mark != frames.as_sent(picture(2)).mark
    assert "data" not in repr(sent)


# ---------------------------------------------------------------- on the wire


@pytest.mark.parametrize("protocol", ["ollama", "openai"])
def test_pictures_on_the_wire(folder: Path, protocol: str) -> None:
    with serve(protocol) as server:
        server.reply = lambda messages: SAID
        llm = "ollama/tiny" if protocol == "ollama" else "vllm/tiny"
        address = server.address if protocol == "ollama" else f"{server.address}/v1"
        found = document(*asked(folder, address, llm))
        assert found == {"classes": 4, "pictures": 8, "asked": 8, "cached": 0, "failed": []}
        question = server.chats()[0]["messages"][-1]
        if protocol == "ollama":
            (sent,) = question["images"]
            text = question["content"]
        else:
            told, shown = question["content"]
            text = told["text"]
            assert told["type"] == "text" and shown["type"] == "image_url"
            kind, sent = shown["image_url"]["url"].split(",")
            assert kind == "data:image/jpeg;base64"
        assert "Three rules" in text and "sha256" not in text  # the mark stays here
        data = base64.b64decode(sent)
        with Image.open(io.BytesIO(data)) as opened:
            assert opened.size == (40, 30)
        again = document(*asked(folder, address, llm))
        assert (again["asked"], again["cached"]) == (0, 8) and len(server.chats()) == 8
    with DialogueStore(folder / "d.h5") as kept:
        told = kept.find(rounds=[SEEN.number])
        marks = {each.messages[-1]["content"].rpartition("\n\n")[2] for each in told}
        assert len(told) == len(marks) == 8 and Picture(data).mark in marks
        assert all(each.text == SAID and each.key == exchange_key(each.identity, each.messages) for each in told)


def test_a_model_that_declines_and_one_that_sees_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    with serve("openai") as server:
        address = f"{server.address}/v1"

        def reply(messages: list[dict]) -> str:
            return "I'm sorry, I can't describe this image." if '"step"' in str(messages) else SAID

        server.reply = reply
        code, line = failure(monkeypatch, capsys, *asked(folder, address), "--quiet")
        assert code == 1 and line.count("\n") == 1
        assert "1 of 4 classes have no description of a picture ('step': round 13" in line and "is kept" in line
        server.reply = lambda messages: SAID
        found = document(*asked(folder, address))
        assert (found["asked"], found["cached"], found["failed"]) == (2, 12, [])  # six refusals among them
    with pytest.raises(BackendError, match="sees no pictures"):
        open_backend("local/smollm2").ask([], _topic())


def _topic() -> Topic:
    return Topic(0, "step", SEEN.number, SEEN.kind, pictures=(frames.as_sent(picture(0)),))


# ---------------------------------------------------------------- bad input


def test_classes_without_frames_are_named_before_anything_is_asked(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    for path in (folder / "frames" / "step" / "clip").iterdir():
        path.unlink()
    with serve("openai") as server:
        code, line = failure(monkeypatch, capsys, *asked(folder, f"{server.address}/v1"), "--quiet")
        assert code == 1 and "no frames of 1 of 4 classes ('step')" in line and line.count("\n") == 1
        assert not server.chats()
    with pytest.raises(DialogueError, match="is no folder"):
        frames.files_of(folder / "nowhere", CLASSES)


@pytest.mark.parametrize("name", ["x.png", "x.mp4"])
def test_files_that_cannot_be_decoded(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\x00" * 100)
    with pytest.raises(DialogueError, match=name) as caught:
        frames.frames_of([tmp_path / name])
    assert "\n" not in str(caught.value)


def test_what_asks_nothing_about_pictures(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    command = ["describe", folder / "t.h5", "--llm", "vllm/tiny", "--base-url", "http://127.0.0.1:9/v1", "--quiet"]
    code, line = failure(monkeypatch, capsys, *command, "--store", folder / "d.h5", "--frames", folder / "frames")
    assert code == 1 and "asks nothing about pictures" in line
    with pytest.raises(DialogueError, match="no encoder of pictures 'clip'"):
        frames.encoder("clip")
