"""People's own recordings: tables, and where their classes and splits come from."""

from __future__ import annotations

import io
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from skag.cli import app
from skag.readers import csv_table, tables
from skag.readers.joints import layout_of_names, layout_of_shape, near
from skag.readers.source import Unusable
from skag.skeleton.layouts import load_layout
from tests.helpers.recordings import (
    ROOT,
    as_folder,
    as_tar,
    as_zip,
    converted,
    csv,
    ntu_csv,
    numbered_csv,
    points,
    refusal,
)

COCO = ["nose", "left eye", "right eye", "left ear", "right ear", "left shoulder", "right shoulder", "left elbow",
        "right elbow", "left wrist", "right wrist", "left hip", "right hip", "left knee", "right knee",
        "left ankle", "right ankle"]  # fmt: skip


def classes_by_folder() -> dict[str, bytes]:
    return {f"data/{label}/{n}.csv": ntu_csv(n) for label in ("walk", "sit 10", "sit 9") for n in (1, 2)}


# where classes come from


@pytest.mark.parametrize("pack", [as_folder, as_zip, as_tar])
def test_the_folder_is_the_class(tmp_path: Path, pack: object) -> None:
    report, store = converted(pack(classes_by_folder(), tmp_path / "x"), tmp_path)
    assert store.classes == ["sit 9", "sit 10", "walk"], "numbers by their value"
    assert sorted(store.names) == sorted(["walk/1", "walk/2", "sit 9/1", "sit 9/2", "sit 10/1", "sit 10/2"])
    assert all(store.classes[store.labels[n]] == name.split("/")[0] for n, name in enumerate(store.names))
    assert set(report.splits) == {"random_train", "random_test"} and report.splits["random_test"] == 3
    assert "bring no splits: 3 recordings are in random_train and 3 in random_test" in report.notes[-1]
    assert (report.layout, report.skipped) == ("nturgb+d", [])


def test_folders_named_train_and_test_are_splits(tmp_path: Path) -> None:
    members = {f"{split}/{label}/1.csv": ntu_csv() for split in ("Train", "test") for label in ("a", "b")}
    report, store = converted(as_folder(members, tmp_path / "x"), tmp_path)
    assert store.classes == ["a", "b"] and report.splits == {"train": 2, "test": 2}
    assert {store.names[n] for n in store.splits["train"]} == {"Train/a/1", "Train/b/1"}


def test_a_labels_csv_beside_the_recordings(tmp_path: Path) -> None:
    labels = (
        "file,label,subject,camera,split\n"
        "walk/1.csv,stroll,anna,2,train;extra_train\n"
        "walk/2,stroll,ben,1,test\n"
        "sit 9/1.csv,sit,anna,,train\n"
        "gone.csv,sit,carl,,\n"
    )
    members = {**classes_by_folder(), "data/labels.csv": labels.encode("utf-8-sig")}
    members = {name.removeprefix("data/"): data for name, data in members.items()}
    report, store = converted(as_folder(members, tmp_path / "x"), tmp_path)
    assert sorted(store.names) == ["sit 9/1", "walk/1", "walk/2"] and store.classes == ["sit", "stroll"]
    at = {name: n for n, name in enumerate(store.names)}
    assert [store.classes[store.labels[at[name]]] for name in ("sit 9/1", "walk/1", "walk/2")] == [
        "sit", "stroll", "stroll"
    ]  # fmt: skip
    assert store.subjects[at["walk/1"]] == store.subjects[at["sit 9/1"]] == 1 and store.subjects[at["walk/2"]] == 2
    assert store.cameras[at["walk/1"]] == 2
    assert {name: {store.names[n] for n in numbers} for name, numbers in store.splits.items()} == {
        "train": {"walk/1", "sit 9/1"}, "extra_train": {"walk/1"}, "test": {"walk/2"}
    }  # fmt: skip
    assert {name for name, _ in report.skipped} == {"sit 10/1", "sit 10/2", "sit 9/2"}
    assert all("has no row in labels.csv" in reason for _, reason in report.skipped)
    assert any("Subjects have names" in note for note in report.notes)
    assert any("1 file that is not here, such as gone.csv" in note for note in report.notes)


def test_labels_from_a_file_named_on_the_command_line(tmp_path: Path) -> None:
    source = as_folder({f"{n}.csv": ntu_csv(n) for n in range(4)}, tmp_path / "x")
    (tmp_path / "mine.csv").write_text("label;file\nwave;0\nwave;1\nbow;2\nbow;3\n")
    report, store = converted(source, tmp_path, labels=tmp_path / "mine.csv")
    assert store.classes == ["bow", "wave"] and store.labels.tolist() == [1, 1, 0, 0] and report.skipped == []
    (tmp_path / "names.txt").write_text("wave\nbow\nclap\n")
    _, store = converted(source, tmp_path / "2", labels=tmp_path / "mine.csv", classes=tmp_path / "names.txt")
    assert store.classes == ["wave", "bow", "clap"] and store.labels.tolist() == [0, 0, 1, 1]
    (tmp_path / "names.txt").write_text("waves\nbow\n")
    message = refusal(source, tmp_path / "3", labels=tmp_path / "mine.csv", classes=tmp_path / "names.txt")
    assert "has the label 'wave', which is no class; did you mean 'waves'?" in message


def test_labels_are_for_recordings_without_their_own(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("file,label\na,b\n")
    source = as_folder({"a01_s01_e00_v01.json": b"{}"}, tmp_path / "x")
    assert "brings its own labels: leave --labels out" in refusal(source, tmp_path, labels=tmp_path / "mine.csv")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            b"name,class\na,b\n",
            "with the columns file and label, and maybe subject, camera and split; it has name, class.",
        ),
        (b"", "it has no names."),
        (b"file,label\na,\n", "line 2: file or label is empty"),
        (b"file,label\na,b\na,c\n", "line 3: a is on a line before with other values"),
        (b"file,label\n\xff,b\n", "is not UTF-8"),
        (b'file,label\n"' + b"x" * 200_000, "write it anew"),
    ],
)
def test_bad_label_files_are_refused(tmp_path: Path, text: bytes, said: str) -> None:
    (tmp_path / "mine.csv").write_bytes(text)
    source = as_folder({"a.csv": ntu_csv()}, tmp_path / "x")
    assert said in refusal(source, tmp_path, labels=tmp_path / "mine.csv")
    assert "no labels in" in refusal(source, tmp_path, labels=tmp_path / "none.csv")


def test_recordings_without_a_class(tmp_path: Path) -> None:
    message = refusal(as_folder({"a.csv": ntu_csv(), "b.csv": ntu_csv()}, tmp_path / "x"), tmp_path)
    assert "2 (a first) have no label: give --labels FILE.csv, or put recordings into a folder per class" in message


def test_a_folder_of_one_class_needs_the_others_to_be_named(tmp_path: Path) -> None:
    source = as_folder({"walk/1.csv": ntu_csv(), "walk/2.csv": ntu_csv()}, tmp_path / "x")
    message = refusal(source, tmp_path)
    assert (
        "2 (1 first) are in folder 'walk' as all recordings are, which makes one class" in message
        and "--classes" in message
    )
    (tmp_path / "names.txt").write_text("sit\nwalk\n")
    _, store = converted(source, tmp_path, classes=tmp_path / "names.txt")
    assert store.classes == ["sit", "walk"] and store.labels.tolist() == [1, 1]


# several formats side by side


def npy(values: np.ndarray) -> bytes:
    np.save(buffer := io.BytesIO(), values)
    return buffer.getvalue()


def landmarks(frames: int = 3) -> bytes:
    return json.dumps([{"pose_landmarks": points(1, 33, 3, seed)[0].tolist()} for seed in range(frames)]).encode()


def mixed() -> dict[str, bytes]:
    """Three classes, of which one is there in both formats."""
    array = npy(points(4, 25, 3).astype("f4"))
    return {"walk/1.csv": ntu_csv(1), "walk/2.npy": array, "sit/1.npy": array, "bow/1.csv": ntu_csv(2)}


@pytest.mark.parametrize("pack", [as_folder, as_zip, as_tar])
def test_all_formats_of_a_source_are_read(tmp_path: Path, pack: object) -> None:
    report, store = converted(pack(mixed(), tmp_path / "x"), tmp_path)
    assert sorted(store.names) == ["bow/1", "sit/1", "walk/1", "walk/2"] and report.skipped == []
    assert store.classes == ["bow", "sit", "walk"]
    assert all(store.classes[store.labels[n]] == name.split("/")[0] for n, name in enumerate(store.names))
    _, store = converted(pack(mixed(), tmp_path / "x"), tmp_path / "2", format="csv")
    assert sorted(store.names) == ["bow/1", "walk/1"]


def test_a_class_per_format(tmp_path: Path) -> None:
    members = {"walk/1.csv": ntu_csv(), "sit/1.npy": npy(points(3, 25, 3))}
    assert converted(as_folder(members, tmp_path / "x"), tmp_path)[1].classes == ["sit", "walk"]
    members = {"walk/1.csv": numbered_csv(points(3, 33, 3)), "sit/1.json": landmarks()}
    assert converted(as_folder(members, tmp_path / "y"), tmp_path / "2")[1].names == ["sit/1", "walk/1"]


def test_labels_of_recordings_in_several_formats(tmp_path: Path) -> None:
    header, rows, _ = long_table()
    source = as_folder({"all.csv": csv(header, rows), "4.npy": npy(points(3))}, tmp_path / "x")
    (source / "mine.csv").write_text("file,label,split\none,walk,train\ntwo,sit,test\nthree,sit,test\n4,bow,train\n")
    report, store = converted(source, tmp_path, labels=source / "mine.csv")
    assert dict(zip(store.names, [store.classes[k] for k in store.labels], strict=True)) == {
        "one": "walk", "two": "sit", "three": "sit", "4": "bow"
    }  # fmt: skip
    assert (report.skipped, report.notes) == ([], []) and report.splits == {"train": 2, "test": 2}


def test_what_is_not_read_beside_another_format_is_named(tmp_path: Path) -> None:
    members = {
        "a/1.npy": npy(points(3)), "b/1.npy": npy(points(3)), "b/2.csv": ntu_csv(), "c/3.csv": b"", "b/notes.txt": b"",
        "settings.json": b"{}",
    }  # fmt: skip
    report, store = converted(as_folder(members, tmp_path / "x"), tmp_path)
    assert sorted(store.names) == ["a/1", "b/1"] and store.classes == ["a", "b"]
    assert dict(report.skipped) == {
        "b/2.csv": "is not read: the first of its format has 25 joints, and layout coco has 17",
        "c/3.csv": "is not read: the first of its format has 25 joints, and layout coco has 17",
        "settings.json": "is no recording in a JSON format that skag reads",
    }
    members["b/2.csv"] = b"who,what\nanna,camera\n"
    report, _ = converted(as_folder(members, tmp_path / "x"), tmp_path / "2")
    assert report.clips == 2 and dict(report.skipped)["c/3.csv"] == "is empty"
    assert dict(report.skipped)["b/2.csv"] == "has no columns with coordinates of joints, such as left_hand_x"


# tables


@pytest.mark.parametrize(
    ("pattern", "first"),
    [
        ("joint_{joint}_{axis}", 0),
        ("{axis}{joint}", 1),
        ("{joint}_{axis}", 0),
        ("Joint{joint}.{axis}", 0),
        ("kp{joint} {axis}", 1),
    ],
)
def test_numbered_columns(tmp_path: Path, pattern: str, first: int) -> None:
    values = points(4, 25, 3)
    members = {"a/1.csv": numbered_csv(values, pattern, first), "b/1.csv": ntu_csv()}
    _, store = converted(as_folder(members, tmp_path / "x"), tmp_path)
    assert np.array_equal(store.keypoints(0)[0], values.astype("f4")) and store.layout.name == "nturgb+d"


@pytest.mark.parametrize(
    "spell",
    [
        lambda joint: f"{joint} ",
        lambda joint: joint.replace(" ", "_") + "_",
        lambda joint: "".join(word.capitalize() for word in joint.split()) + ".",
        lambda joint: joint.upper().replace(" ", "_") + "_",
        lambda joint: joint.replace("left ", "l_").replace("right ", "r_") + "_",
    ],
)
def test_named_columns_in_any_order(tmp_path: Path, spell: object) -> None:
    values = points(2, 17, 3)
    order = np.random.default_rng(1).permutation(17)
    header = ["time", *(spell(COCO[v]) + axis for v in order for axis in ("x", "y", "score"))]
    rows = [[t / 30, *values[t, order].ravel()] for t in range(2)]
    members = {"a/1.csv": csv(header, rows), "b/1.csv": csv(header, rows)}
    report, store = converted(as_folder(members, tmp_path / "x"), tmp_path)
    assert report.layout == "coco" and report.skipped == []
    assert np.array_equal(store.keypoints(0)[0], values[..., :2].astype("f4"))
    assert np.array_equal(store.confidence(0)[0], values[..., 2].astype("f4"))


def test_a_layout_takes_its_joints_out_of_more(tmp_path: Path) -> None:
    names = [*COCO, "tail"]
    header = [f"{name}_{axis}" for name in names for axis in "xyz"]
    values = points(2, 18, 3)
    members = {"a/1.csv": csv(header, values.reshape(2, -1)), "b/1.csv": csv(header, values.reshape(2, -1))}
    source = as_folder(members, tmp_path / "x")
    message = refusal(source, tmp_path)
    assert "18 joints with 3 coordinates of no known layout (17 of your 18 joints are those of coco; not in" in message
    assert "name one with --layout, or describe" in message
    _, store = converted(source, tmp_path, layout="coco")
    assert np.array_equal(store.keypoints(0)[0], values[:, :17, :2].astype("f4"))
    assert "has no joint 'neck', which layout" in refusal(source, tmp_path / "2", layout="openpose-18")
    assert "has no joint 'hip centre'" in refusal(source, tmp_path / "2", layout="kinect-v1")


def test_the_layout_of_the_documents_can_be_used(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
    (layout,) = re.findall(r"^```toml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    (tmp_path / "mine.toml").write_text(layout)
    source = as_folder({f"{name}/1.npy": npy(points(3, 3, 3)) for name in "ab"}, tmp_path / "x")
    assert "3 joints with 3 coordinates, as no known layout" in (message := refusal(source, tmp_path))
    assert (title := message.partition("docs/formats.md, ")[2].removesuffix(").")) and f"\n## {title}\n" in text
    report, _ = converted(source, tmp_path, layout=str(tmp_path / "mine.toml"))
    assert (report.layout, report.joints) == ("my-sensor", 3)


def long_table() -> tuple[list[str], list[list[object]], np.ndarray]:
    """Three recordings of two frames, the second with two people, frames out of order."""
    values = points(8)
    header = ["clip", "frame", "body", "label", "subject", "split", "width", "height",
              *(f"{v}_{axis}" for v in range(17) for axis in "xy")]  # fmt: skip
    facts = [
        ["one", 1, "p", "walk", 7, "train", 640, 480],
        ["one", 2, "p", "", "", "", "", ""],
        ["two", 20, "p", "sit", 8, "test", "", ""],
        ["two", 10, "p", "sit", 8, "test", "", ""],
        ["two", 10, "q", "sit", 8, "test", "", ""],
        ["two", 20, "q", "sit", 8, "test", "", ""],
        ["three", 1, "p", "walk", 9, "train", "", ""],
        ["three", 2, "p", "walk", 9, "train", "", ""],
    ]
    return header, [[*fact, *values[n].ravel()] for n, fact in enumerate(facts)], values.astype("f4")


def check_long_table(source: Path, tmp_path: Path) -> None:
    report, store = converted(source, tmp_path)
    _, _, values = long_table()
    assert store.names == ["one", "two", "three"] and store.classes == ["sit", "walk"]
    assert store.labels.tolist() == [1, 0, 1] and store.subjects.tolist() == [7, 8, 9]
    assert report.splits == {"train": 2, "test": 1} and report.skipped == []
    assert np.array_equal(store.keypoints(0)[0], values[:2])
    assert np.array_equal(store.keypoints(1), [values[[3, 2]], values[[4, 5]]])
    assert store.widths.tolist()[0] == 640 and store.heights.tolist()[0] == 480


def test_several_recordings_in_one_table(tmp_path: Path) -> None:
    header, rows, _ = long_table()
    (tmp_path / "data.csv").write_bytes(csv(header, rows))
    check_long_table(tmp_path / "data.csv", tmp_path)


def test_semicolons_with_decimal_commas_and_tabs(tmp_path: Path) -> None:
    header, rows, _ = long_table()
    (tmp_path / "data.csv").write_bytes(csv(header, rows, ";").replace(b".", b","))
    check_long_table(tmp_path / "data.csv", tmp_path)
    (tmp_path / "data.tsv").write_bytes(csv(header, rows, "\t"))
    check_long_table(tmp_path / "data.tsv", tmp_path / "2")


def test_parquet(tmp_path: Path) -> None:
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    header, rows, _ = long_table()
    columns = dict(zip(header, map(list, zip(*rows, strict=True)), strict=True))
    columns = {name: [None if value == "" else value for value in column] for name, column in columns.items()}
    columns["subject"] = [value if value is None else float(value) for value in columns["subject"]]
    parquet.write_table(pa.table(columns), tmp_path / "data.parquet", row_group_size=3)
    check_long_table(tmp_path / "data.parquet", tmp_path)
    columns["0_x"] = ["far"] * 8
    parquet.write_table(pa.table(columns), tmp_path / "data.parquet")
    assert "column of coordinates of type string" in refusal(tmp_path / "data.parquet", tmp_path / "2")
    (tmp_path / "data.parquet").write_bytes(b"PAR1")
    assert "is no Parquet file, or a damaged one" in refusal(tmp_path / "data.parquet", tmp_path / "2")


def test_parquet_without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "data.parquet").write_bytes(b"PAR1")
    assert refusal(tmp_path / "data.parquet", tmp_path).endswith("pip install pyarrow")


def test_the_recordings_of_a_table_must_not_be_scattered(tmp_path: Path) -> None:
    header, rows, _ = long_table()
    (tmp_path / "data.csv").write_bytes(csv(header, [rows[0], *rows[2:], rows[1]]))
    report, store = converted(tmp_path / "data.csv", tmp_path)
    assert store.names == ["two", "three"]
    assert report.skipped == [("one", "has rows in several places: sort the table by its recordings")]


def test_a_labels_csv_for_a_table_without_labels(tmp_path: Path) -> None:
    header, rows, values = long_table()
    kept = [0, 1, 2, *range(8, len(header))]
    members = {
        "data.csv": csv([header[n] for n in kept], [[row[n] for n in kept] for row in rows]),
        "labels.csv": b"file,label,split\none,walk,train\ntwo,sit,test\n",
    }
    report, store = converted(as_folder(members, tmp_path / "x"), tmp_path)
    assert store.names == ["one", "two"] and store.classes == ["sit", "walk"]
    assert report.skipped == [("three", "has no row in labels.csv")]


def test_empty_cells_are_joints_that_were_not_seen(tmp_path: Path) -> None:
    lines = ntu_csv().decode().splitlines()
    cells = lines[1].split(",")
    cells[3] = ""
    members = {"a/1.csv": "\n".join([lines[0], ",".join(cells), *lines[2:]]).encode(), "b/1.csv": ntu_csv()}
    _, store = converted(as_folder(members, tmp_path / "x"), tmp_path)
    assert not store.keypoints(0)[0, 0, 1].any() and store.keypoints(0)[0, 0, 2:].all()


BAD_TABLES = [
    (csv(["time"], [[1]]), "no columns with coordinates of joints"),
    (csv(["0_x", "0_y", "2_x", "2_y"], [[1, 2, 3, 4]]), "numbers of joints with gaps"),
    (csv(["nose_x", "nose_x", "nose_y"], [[1, 2, 3]]), "two columns for x of joint nose"),
    (csv(["nose_x", "nose_y", "tail_x"], [[1, 2, 3]]), "no column y for joint tail"),
    (csv(["nose_x", "nose_y", "nose_c", "tail_x", "tail_y"], [[1, 2, 3, 4, 5]]), "no confidence for joint tail"),
    (numbered_csv(points(2, 20, 3)), "20 joints, and layout nturgb+d has 25"),
    (numbered_csv(points(2, 25, 2), axes="xy"), "2 coordinates per joint, and layout nturgb+d has 3"),
    (
        csv([f"{v}_{axis}" for v in range(25) for axis in "xyz"], [[*range(74), "far"]]),
        "'far' in column 24_z on line 2",
    ),
    (ntu_csv()[:-30], "values on line 4, not 75"),
    (ntu_csv().split(b"\n")[0] + b"\n", "has no rows"),
    (ntu_csv() + b"\xff" * 5, "not UTF-8"),
    (ntu_csv() + b"1" * (csv_table.MAX_LINE + 5), "a line of more than 256 KiB"),
    (ntu_csv() + b'"' + b"1\n" * 100_000, "something wrong after line"),
    (b"frame," + ntu_csv().replace(b"\n", b"\nlast,", 2), "'last' for the number of a frame"),
    (b"frame," + ntu_csv().replace(b"\n", b"\n3,", 3)[:-2], "frame 3 twice: say in a column body who is who"),
]


@pytest.mark.parametrize("data", [b"", b"who,what\nanna,camera\n"])
def test_a_bad_table_alone_is_told_by_what_is_wrong_with_it(tmp_path: Path, data: bytes) -> None:
    says = "has no columns with coordinates of joints" if data else "is empty"
    many = says.replace("has", "have").replace("is", "are")
    for name in ("a/1.csv", "b/2.csv"):
        assert f"x{name[2]}: {name} {says}" in refusal(as_folder({name: data}, tmp_path / f"x{name[2]}"), tmp_path)
        assert f"{name[2:]} {says}" in refusal(tmp_path / f"x{name[2]}" / name, tmp_path)
    source = as_folder({"a/1.csv": data, "b/2.csv": data}, tmp_path / "both")
    assert f"none of the 2 tables in {source} can be used: 2 (a/1.csv first) {many}" in refusal(source, tmp_path)


@pytest.mark.parametrize(("data", "reason"), BAD_TABLES)
def test_a_bad_table_is_left_out(tmp_path: Path, data: bytes, reason: str) -> None:
    members = {"a/1.csv": ntu_csv(1), "b/1.csv": ntu_csv(2), "b/9.csv": data}
    report, store = converted(as_folder(members, tmp_path / "x"), tmp_path)
    ((name, said),) = report.skipped
    assert reason in said and sorted(store.names) == ["a/1", "b/1"] and name.startswith("b/9")


def test_too_many_bodies_and_too_long_recordings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    header, rows, _ = long_table()
    crowd = [["crowd", 1, f"p{n}", *rows[0][3:]] for n in range(6)]
    (tmp_path / "data.csv").write_bytes(csv(header, [*rows, *crowd]))
    report, _ = converted(tmp_path / "data.csv", tmp_path)
    assert report.clips == 3 and report.skipped == [("crowd", "has more than 5 bodies")]
    monkeypatch.setattr(tables, "MAX_BYTES", 300)
    report, _ = converted(tmp_path / "data.csv", tmp_path / "2")
    assert report.clips == 2 and dict(report.skipped)["two"] == "is longer than 0 MiB"


def test_a_table_on_the_disk_may_be_longer_than_a_member(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skag.readers.archives.MAX_MEMBER", 100)
    header, rows, _ = long_table()
    (tmp_path / "data.csv").write_bytes(csv(header, rows))
    check_long_table(tmp_path / "data.csv", tmp_path)


def test_names_in_tables_are_only_names(tmp_path: Path) -> None:
    header, rows, _ = long_table()
    rows = [["../../\x1b[31m" + str(row[0]), *row[1:]] for row in rows]
    (tmp_path / "data.csv").write_bytes(csv(header, rows))
    _, store = converted(tmp_path / "data.csv", tmp_path)
    assert all(name.isprintable() for name in store.names) and len(store) == 3
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {"data.csv", "data.h5"}


def test_tables_that_are_none_of_recordings_may_lie_beside_them(tmp_path: Path) -> None:
    members = {"a/1.csv": ntu_csv(), "b/1.csv": ntu_csv(), "a/0_notes.csv": b"who,what\nanna,camera\n"}
    report, _ = converted(as_folder(members, tmp_path / "x"), tmp_path)
    assert report.clips == 2 and "no columns with coordinates" in report.skipped[0][1]


def test_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    as_folder({f"x/{n}.csv": ntu_csv(n) for n in range(4)}, tmp_path)
    rows = "".join(f"{n},{label},{who}\n" for n, label, who in zip(range(4), "aabb", "1212", strict=True))
    (tmp_path / "mine.csv").write_text("file,label,subject\n" + rows)
    arguments = ["convert", "x", "own.h5", "--labels", "mine.csv", "--split-by", "subject"]
    printed = CliRunner().invoke(app, arguments)
    assert printed.exit_code == 0 and "4 clips of 2 classes, layout nturgb+d" in printed.output.replace("\n", " ")
    assert "1 of 2 subjects test" in printed.output.replace("\n", " ")
    made = json.loads(CliRunner().invoke(app, [*arguments, "--json", "--quiet"]).stdout)
    assert made["splits"] == {"subject_test": 2, "subject_train": 2} and made["classes"] == ["a", "b"]


def test_the_table_of_what_is_left_out_says_where_it_stops(tmp_path: Path) -> None:
    members = {f"{label}/{n}.csv": ntu_csv() if n < 2 else b"" for label in "ab" for n in range(13)}
    out = tmp_path / "own.h5"
    printed = CliRunner().invoke(app, ["convert", str(as_folder(members, tmp_path / "x")), str(out)]).stdout
    assert printed.count("is empty") == 20 and " ... and 2 more; --json lists all\n22 recordings were left" in printed
    assert "a/3.csv" in printed and "b/3.csv" in printed
    two_less = {name: data for name, data in members.items() if not name.endswith("12.csv")}
    printed = CliRunner().invoke(app, ["convert", str(as_folder(two_less, tmp_path / "y")), str(out)]).stdout
    assert "20 recordings were left out" in printed and "more" not in printed


def test_bodies_one_after_another_do_not_fill_a_large_recording_with_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = "frame,body,label," + ",".join(f"joint{v}_{axis}" for v in range(17) for axis in "xy")
    rows = [f"{n},{n % 4},walk" + ",1" * 34 for n in range(40)]
    (tmp_path / "own.csv").write_text("\n".join([head, *rows]))
    (tmp_path / "labels.csv").write_text("file,label\nown,walk\n")
    assert converted(tmp_path / "own.csv", tmp_path / "a")[0].bodies == 4
    monkeypatch.setattr(tables, "ALWAYS_ALLOWED", 0)
    assert "bodies one after another" in refusal(tmp_path / "own.csv", tmp_path / "b")


def test_an_unknown_set_of_joints_names_the_nearest_layout_and_the_difference() -> None:
    coco = list(load_layout("coco").joints)
    yours = [joint.replace(" ", "_").upper() for joint in coco] + ["tail_tip", "tail_base"]
    with pytest.raises(Unusable, match=r"17 of your 19 joints are those of coco; not in it: tail_tip, tail_base; its"):
        layout_of_names(yours, 3)
    assert near(coco[1:], 2) == " (16 of your 16 joints are those of coco; it also has: nose)"
    assert near(["a", "b", "left wrist"], 2) == "", "one in three is no likeness"
    with pytest.raises(Unusable, match=r"has 16 joints with 2 .*\(the nearest have 17 \([a-z0-9.-]+\) and 18 \(openp"):
        layout_of_shape(16, 2)
