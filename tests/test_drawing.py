"""Clips drawn in all three ways, with names that try to be markup."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from skag.cli import app
from skag.errors import DataError
from skag.results.drawing import clip_number, draw_clip, extent_of, view
from skag.skeleton.layouts import load_layout
from skag.skeleton.store import Clip, SkeletonStore, write_store

from .helpers.tiny import tiny_clip

HOSTILE = "</script><img src=x onerror=alert(1)>$title"


def stored(path: Path, *clips: Clip, layout: str = "kinect-v1", classes: list[str] | None = None) -> SkeletonStore:
    with write_store(path / "made.h5", load_layout(layout)) as writer:
        for clip in clips:
            writer.add(clip)
        writer.finish(classes or ["raise", "lower"])
    return SkeletonStore(path / "made.h5")


@pytest.fixture
def body() -> np.ndarray:
    return tiny_clip(0, np.random.default_rng(0))


def page_data(page: str) -> dict:
    return json.loads(re.search(r'<script id="data" type="application/json">(.*?)</script>', page, re.DOTALL)[1])


def test_a_clip_is_found_by_name_then_by_number_and_else_the_nearest_is_told(tmp_path, body):
    with stored(tmp_path, Clip("sit", 0, body), Clip("0", 1, body)) as store:
        assert (clip_number(store, "sit"), clip_number(store, "0"), clip_number(store, "1")) == (0, 1, 1)
        with pytest.raises(DataError, match="nearest are sit"):
            clip_number(store, "sitt")
        for number in ("2", "9" * 40):
            with pytest.raises(DataError, match="2 clips are numbered from 0"):
                clip_number(store, number)


def test_every_ending_draws_its_kind(tmp_path, body):
    with stored(tmp_path, Clip("one", 0, body), Clip("short", 0, body[:, :1])) as store:
        for number, frames in ((0, body.shape[1]), (1, 1)):
            for ending in ("png", "gif", "html"):
                draw_clip(store, number, tmp_path / "new" / f"{number}.{ending}")
            with Image.open(tmp_path / "new" / f"{number}.png") as strip:
                assert strip.format == "PNG" and min(strip.size) > 300
            with Image.open(tmp_path / "new" / f"{number}.gif") as moving:
                assert moving.n_frames == frames
            data = page_data((tmp_path / "new" / f"{number}.html").read_text(encoding="utf-8"))
            assert len(data["frames"]) == data["total"] == frames and data["joints"][3] == "head"
        with pytest.raises(DataError, match="--out"):
            draw_clip(store, 0, tmp_path / "a.pdf")


def test_the_view_is_upright_and_leaves_out_what_was_not_found(tmp_path, body):
    joints = load_layout("kinect-v1").index
    body[0, :, joints["head"], 1] = 3
    body[0, 2, joints["left foot"]] = 0
    body[0, 3, joints["left foot"]] = np.nan
    confidence = np.ones(body.shape[:3], np.float32)
    confidence[0, 4, joints["right foot"]] = 0.1
    with stored(tmp_path, Clip("one", 0, body, confidence=confidence, subject=4, splits=("train",))) as store:
        drawn = view(store, 0)
    assert drawn.title == "one: raise" and "subject 4, train, layout kinect-v1" in drawn.facts
    assert drawn.points[:, 0, joints["head"], 1].min() > np.nanmax(np.delete(drawn.points[..., 1], joints["head"], 2))
    missing = np.argwhere(np.isnan(drawn.points[:, 0, :, 0])).tolist()
    assert missing == [[2, joints["left foot"]], [3, joints["left foot"]], [4, joints["right foot"]]]


def test_pixels_count_downwards(tmp_path):
    points = np.random.default_rng(0).uniform(50, 300, (2, 6, 17, 2)).astype(np.float32)
    points[:, :, 0, 1] = 1
    with stored(tmp_path, Clip("one", 5, points), layout="coco") as store:
        drawn = view(store, 0)
        draw_clip(store, 0, tmp_path / "a.html")
    assert drawn.title == "one: label 5" and (drawn.points[:, :, 0, 1] > drawn.points[:, :, 1, 1]).all()
    data = page_data((tmp_path / "a.html").read_text(encoding="utf-8"))
    assert data["flat"] and len(data["frames"][0]) == 2


def test_a_clip_with_nobody_in_it_is_not_drawn(tmp_path, body):
    with stored(tmp_path, Clip("nobody", 0, body * 0)) as store, pytest.raises(DataError, match="nothing to draw"):
        view(store, 0)


def test_names_never_become_markup_and_the_page_loads_nothing(tmp_path, body):
    with stored(tmp_path, Clip(HOSTILE, 0, body), classes=[HOSTILE + "\x1b\n"]) as store:
        for ending in ("html", "png", "gif"):
            draw_clip(store, 0, tmp_path / f"a.{ending}")
    page = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert "<img" not in page and "&lt;img src=x" in page and page.count("<script") == page.count("</script>") == 2
    assert "default-src 'none'" in page and not re.search(r"(src|href)=[\"']|url\(|@import", page.replace("src=x", ""))


def test_joint_names_never_become_markup(tmp_path, body):
    layout = load_layout("kinect-v1").to_dict()
    text = json.dumps(layout).replace('"head"', json.dumps(HOSTILE))
    made = type(load_layout("kinect-v1")).from_dict(json.loads(text))
    with write_store(tmp_path / "made.h5", made) as writer:
        writer.add(Clip("one", 0, body))
        writer.finish(["raise"])
    with SkeletonStore(tmp_path / "made.h5") as store:
        draw_clip(store, 0, tmp_path / "a.html")
    page = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert "<img" not in page and HOSTILE in page_data(page)["joints"]


def test_the_command_names_the_picture(tmp_path, body, monkeypatch):
    monkeypatch.chdir(tmp_path)
    stored(tmp_path, Clip("one", 1, body)).close()
    result = CliRunner().invoke(app, ["show", "made.h5", "one", "--json"])
    assert result.exit_code == 0
    told = json.loads(result.stdout)
    assert told["picture"] == "made-0.png" and Path("made-0.png").is_file() and told["class"] == "lower"
    assert isinstance(CliRunner().invoke(app, ["show", "made.h5", "two"]).exception, DataError)


@pytest.mark.parametrize("ending", ["png", "gif", "html"])
def test_only_a_picture_of_that_kind_is_replaced(tmp_path, body, ending):
    out = tmp_path / f"a.{ending}"
    with stored(tmp_path, Clip("one", 0, body)) as store:
        out.write_text("<!doctype html>\n<html><title>mine</title>")
        with pytest.raises(DataError, match="is there already and is no .*: choose another name"):
            draw_clip(store, 0, out)
        assert "mine" in out.read_text()
        out.unlink()
        for _ in range(2):
            draw_clip(store, 0, out)


@pytest.mark.parametrize(
    ("layout", "lines"),
    [
        ("mediapipe-33", {("left shoulder", "right shoulder"), ("left hip", "right hip")}),
        ("coco", {("left shoulder", "right shoulder"), ("left hip", "right hip")}),
        ("openpose-18", {("left hip", "right hip")}),
        ("smarthome-13", {("left shoulder", "right shoulder"), ("left hip", "right hip")}),
        ("kinect-v1", set()),
        ("nturgb+d", set()),
        ("halpe-26", set()),
    ],
)
def test_a_trunk_without_a_middle_joint_is_drawn_with_lines_across(tmp_path, layout, lines):
    known = load_layout(layout)
    clip = np.random.default_rng(0).normal(size=(1, 3, known.num_joints, known.dims)).astype("f4")
    with stored(tmp_path, Clip("one", 0, clip), Clip("two", 1, clip), layout=layout) as store:
        draw_clip(store, 0, tmp_path / "x.html")
    drawn = {tuple(known.joints[v] for v in line) for line in page_data((tmp_path / "x.html").read_text())["bones"]}
    assert drawn - set(known.bones.items()) == lines and set(known.bones.items()) <= drawn


def test_joints_are_numbered_from_0_as_pose_tools_do(tmp_path, body, monkeypatch):
    shown = []
    monkeypatch.setattr("matplotlib.axes.Axes.annotate", lambda self, text, *args, **options: shown.append(text))
    with stored(tmp_path, Clip("one", 0, body), Clip("two", 1, body)) as store:
        draw_clip(store, 0, tmp_path / "x.png")
        draw_clip(store, 0, tmp_path / "x.html")
    assert "0 hip centre" in shown and "3 head" in shown
    assert "joint + 1" not in (tmp_path / "x.html").read_text()


def test_a_hand_that_is_raised_once_is_not_cut_off_and_a_jump_shrinks_nothing(tmp_path):
    clip = np.random.default_rng(0).uniform(-1, 1, size=(1, 100, 20, 3)).astype("f4")
    clip[0, 50, 7, 1] = 1.5
    with stored(tmp_path, Clip("one", 0, clip), Clip("two", 1, clip)) as store:
        raised = view(store, 0)
        extent = extent_of(raised)
        assert extent[3] >= np.nanmax(raised.points[..., 1])
    clip[0, 60, 7, 1] = 1000
    with stored(tmp_path, Clip("one", 0, clip), Clip("two", 1, clip)) as store:
        jumped = view(store, 0)
    assert 0.5 < np.ptp(jumped.points[0, 0, :, 0]) < 3, "the others keep their size"


def test_a_clip_plays_at_its_own_rate(tmp_path, body):
    """Twelve frames of a recording at 10 a second last 1.2 seconds, not 0.4."""
    with stored(tmp_path, Clip("known", 0, body, frame_rate=10.0), Clip("unknown", 0, body)) as store:
        for number, rate in ((0, 10), (1, 30)):
            draw_clip(store, number, tmp_path / f"{number}.html")
            draw_clip(store, number, tmp_path / f"{number}.gif")
            assert page_data((tmp_path / f"{number}.html").read_text(encoding="utf-8"))["rate"] == rate
            with Image.open(tmp_path / f"{number}.gif") as moving:
                assert moving.info["duration"] == {10: 100, 30: 30}[rate]
        assert "10 frames a second" in view(store, 0).facts and "second" not in view(store, 1).facts
