"""Where classes, subjects and splits of people's own recordings come from, and what is said of it."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from skag.errors import DataError
from skag.readers.chosen_classes import classes_from
from skag.readers.counted import counted_reasons
from skag.readers.fact_columns import fact_of
from skag.readers.name_patterns import guess, name_pattern
from skag.readers.split_names import split_name
from skag.skeleton.splitting import SplitRecording, make_splits
from tests.helpers.recordings import ROOT, as_folder, converted, real, refusal

CASES = ROOT.parent / "shared" / "cases"
JOINTS = [f"{v}_{axis}" for v in range(17) for axis in "xy"]


def table(columns: list[str], rows: list[list[object]], seed: int = 0) -> bytes:
    """A table of these columns before those of 17 joints; the first joint's x is the number of the row."""
    values = np.random.default_rng(seed).uniform(1, 9, (len(rows), len(JOINTS))).round(3)
    values[:, 0] = np.arange(len(rows)) + 1
    lines = [[*columns, *JOINTS], *([*row, *value] for row, value in zip(rows, values.tolist(), strict=True))]
    return "".join(",".join(map(str, line)) + "\n" for line in lines).encode()


def case(name: str) -> Path:
    if not (CASES / name).exists():
        pytest.skip(f"{name} is not here")
    return CASES / name


def labelled(store: object) -> dict[str, str]:
    return {name: store.classes[k] for name, k in zip(store.names, store.labels, strict=True)}


# a label that changes


def test_a_table_is_cut_where_its_label_changes(tmp_path: Path) -> None:
    rows = [[label] for label in ["squat"] * 4 + ["left"] * 3 + ["squat"] * 2]
    (tmp_path / "day.csv").write_bytes(table(["class"], rows))
    report, store = converted(tmp_path / "day.csv", tmp_path)
    assert labelled(store) == {"day@0-3": "squat", "day@4-6": "left", "day@7-8": "squat"}
    assert store.frames.tolist() == [4, 3, 2] and store.keypoints(1)[0, :, 0, 0].tolist() == [5, 6, 7]
    assert any("was cut where column 'class' changes, into 3 clips" in note for note in report.notes)
    assert report.classes_from == "column 'class'" and report.class_counts == {"left": 1, "squat": 2}


def test_frames_keep_their_numbers_and_rows_without_a_label_are_counted(tmp_path: Path) -> None:
    labels = ["squat"] * 3 + [""] * 2 + ["rest"] * 2
    rows = [["one", label, 100 + n] for n, label in enumerate(labels)]
    (tmp_path / "all.csv").write_bytes(table(["clip", "label", "frame"], rows))
    report, store = converted(tmp_path / "all.csv", tmp_path)
    assert labelled(store) == {"one@100-102": "squat", "one@105-106": "rest"} and report.skipped == []
    assert any("2 rows without a label" in note for note in report.notes)


def test_a_label_on_the_first_row_alone_holds_for_all(tmp_path: Path) -> None:
    rows = [["a", "walk"], ["a", ""], ["b", "sit"], ["b", ""]]
    (tmp_path / "all.csv").write_bytes(table(["clip", "label"], rows))
    report, store = converted(tmp_path / "all.csv", tmp_path)
    assert labelled(store) == {"a": "walk", "b": "sit"} and store.frames.tolist() == [2, 2]
    assert not any("cut" in note for note in report.notes)


def test_two_bodies_with_different_labels_are_two_clips(tmp_path: Path) -> None:
    rows = [[n // 2, "pq"[n % 2], ["kick", "fall"][n % 2]] for n in range(6)]
    (tmp_path / "two.csv").write_bytes(table(["frame", "person", "action"], rows))
    report, store = converted(tmp_path / "two.csv", tmp_path)
    assert labelled(store) == {"two.p@0-2": "kick", "two.q@0-2": "fall"} and store.bodies.tolist() == [1, 1]
    assert store.keypoints(1)[0, :, 0, 0].tolist() == [2, 4, 6]
    assert any("two bodies with different labels at one time" in note for note in report.notes)


def test_two_bodies_with_one_label_at_a_time_are_cut_together(tmp_path: Path) -> None:
    rows = [[n // 2, "pq"[n % 2], "hug" if n < 4 else "part"] for n in range(8)]
    (tmp_path / "two.csv").write_bytes(table(["frame", "body", "label"], rows))
    _, store = converted(tmp_path / "two.csv", tmp_path)
    assert labelled(store) == {"two@0-1": "hug", "two@2-3": "part"} and store.bodies.tolist() == [2, 2]


def test_a_table_of_all_people_and_takes_is_cut_by_them(tmp_path: Path) -> None:
    rows = [[who, take, label, n] for label in ("sit", "bow") for who in "AB" for take in (1, 2) for n in range(2)]
    (tmp_path / "all.csv").write_bytes(table(["Person", "trial", "exercise", "frame"], rows))
    _, store = converted(tmp_path / "all.csv", tmp_path)
    assert len(store) == 8 and store.subjects.tolist() == [1, 1, 2, 2, 1, 1, 2, 2] and set(store.frames) == {2}
    assert [store.classes[k] for k in store.labels] == ["sit"] * 4 + ["bow"] * 4 and len(set(store.names)) == 8


# columns


@pytest.mark.parametrize(
    "name",
    [
        "participant_id",
        "Patient",
        "user",
        "User-ID",
        "performer",
        "ACTOR",
        "subject_name",
        "subjectID",
        "USERID",
        "Subject No",
        "proband",
    ],
)
def test_columns_of_people_are_subjects(tmp_path: Path, name: str) -> None:
    assert fact_of(name) == "subject"
    rows = {"a/1": "P2", "a/2": "P7", "b/1": "P2", "b/2": "P7"}
    members = {f"{path}.csv": table([name], [[who]] * 2) for path, who in rows.items()}
    _, store = converted(as_folder(members, tmp_path / "x"), tmp_path, split_by="subject")
    assert dict(zip(store.names, store.subjects.tolist(), strict=True)) == {
        path: int(who[1:]) for path, who in rows.items()
    }


def test_a_refusal_names_a_column_that_could_be_the_class(tmp_path: Path) -> None:
    source = as_folder({f"{n}.csv": table(["motion"], [["sit"]] * 2) for n in range(2)}, tmp_path / "x")
    assert "or take a column, such as --classes-from motion" in refusal(source, tmp_path)


def test_a_random_split_with_a_person_on_both_sides_says_so() -> None:
    made = [SplitRecording(f"r{n}", n % 2, subject, -1) for n, subject in enumerate([4] * 10 + [9])]
    assert "But subject 4 is on both sides, so the test is on people seen before" in make_splits(made, "random")[1]
    apart = [SplitRecording(f"r{n}", n % 2, n, -1) for n in range(10)]
    assert "sides" not in make_splits(apart, "random")[1]


@pytest.mark.parametrize(
    "name", ["left_hand_x", "x", "hand_score", "body_x", "user_height", "frame_name", "temperature"]
)
def test_other_columns_state_no_fact(name: str) -> None:
    assert fact_of(name) is None


def test_a_column_that_disagrees_with_the_folders_is_said(tmp_path: Path) -> None:
    members = {
        f"{group}/{n}.csv": table(["Action"], [["kick" if n else "throw"]])
        for group in ("old", "young")
        for n in (0, 1)
    }
    source = as_folder(members, tmp_path / "x")
    report, store = converted(source, tmp_path)
    assert store.classes == ["kick", "throw"] and report.classes_from == "column 'Action'"
    assert any("lie in a folder that is called otherwise" in note for note in report.notes)
    assert report.could_be == ["the folders of level 1 (old 2, young 2): --classes-from folder:1"]
    report, store = converted(source, tmp_path / "2", classes_from="folder:1")
    assert store.classes == ["old", "young"] and report.could_be == ["column 'Action': --classes-from 'Action'"]


def test_a_column_that_says_the_same_of_all_is_no_class(tmp_path: Path) -> None:
    members = {f"{label}/{n}.csv": table(["class"], [["person"]]) for label in ("sit", "bow") for n in (0, 1)}
    report, store = converted(as_folder(members, tmp_path / "x"), tmp_path)
    assert store.classes == ["bow", "sit"]
    assert any("says 'person' of every recording" in note for note in report.notes)


def test_columns_that_nothing_is_made_of_are_named(tmp_path: Path) -> None:
    members = {f"{label}/1.csv": table(["pose", "mood", "time"], [["up", "good", 1]]) for label in ("sit", "bow")}
    report, _ = converted(as_folder(members, tmp_path / "x"), tmp_path)
    assert "Columns that are not used: mood." in report.notes
    assert "column 'pose': --classes-from 'pose'" in report.could_be
    assert "have no column 'nose'" in refusal(tmp_path / "x", tmp_path / "2", classes_from="nose")


# folders and names


def exercises() -> dict[str, bytes]:
    return {
        f"{what}/{who}/{n}.csv": table([], [[], []], n)
        for what in ("squat", "raise")
        for who in ("anna", "ben")
        for n in (1, 2)
    }


def test_the_level_of_folders_is_said_and_can_be_chosen(tmp_path: Path) -> None:
    source = as_folder(exercises(), tmp_path / "x")
    report, store = converted(source, tmp_path)
    assert store.classes == ["anna", "ben"] and report.classes_from == "the folders of level 2 of 2"
    assert report.could_be == ["the folders of level 1 (raise 4, squat 4): --classes-from folder:1"]
    assert any("--label-from '{subject}/{label}/*'" in note for note in report.notes)
    assert converted(source, tmp_path / "2", classes_from="folder:1")[1].classes == ["raise", "squat"]
    report, store = converted(source, tmp_path / "3", label_from="{label}/{subject}/*", split_by="subject")
    assert store.classes == ["raise", "squat"] and sorted(set(store.subjects)) == [1, 2]
    assert report.splits == {"subject_test": 4, "subject_train": 4}
    assert "levels 1 to 2" in refusal(source, tmp_path / "4", classes_from="folder:3")


def test_folders_that_look_like_people_are_subjects(tmp_path: Path) -> None:
    members = {f"{what}/S{who:02}/1.csv": table([], [[]], who) for what in ("squat", "raise") for who in (3, 11)}
    _, store = converted(as_folder(members, tmp_path / "x"), tmp_path)
    assert store.classes == ["raise", "squat"] and store.subjects.tolist() == [3, 11, 3, 11]


def test_patterns_of_file_names() -> None:
    assert name_pattern("{label}_{subject}").of("x/squat_left_anna.csv") == {"label": "squat_left", "subject": "anna"}
    kinder = name_pattern("POSE-p{subject}_*-{label}-*")
    assert kinder.of("Adults/POSE-p565_01-Raise-your-hand-1469.csv") == {"subject": "565", "label": "Raise-your-hand"}
    assert name_pattern("{label}/cam{camera}/*").of("a/walk/cam2/1.csv") == {"label": "walk", "camera": "2"}
    assert name_pattern("{label}_*").of("walk.csv") is None
    for wrong in ("label", "{label", "{label}{label}", "{1}"):
        with pytest.raises(DataError, match="--label-from"):
            name_pattern(wrong)
    assert guess(["walk_1.csv", "walk_2.csv", "sit_1.csv", "sit_2.csv"])[1] == {"sit": 2, "walk": 2}
    assert guess(["a.csv", "b.csv"]) is None


def test_names_that_hold_the_class_are_offered(tmp_path: Path) -> None:
    source = as_folder(
        {f"{label}_{n}.csv": table([], [[]], n) for label in ("sit", "walk") for n in (1, 2)}, tmp_path / "x"
    )
    assert "--label-from '{label}_*' (sit 2, walk 2)" in refusal(source, tmp_path)
    assert converted(source, tmp_path, label_from="{label}_*")[1].classes == ["sit", "walk"]


# splits


def test_splits_by_any_column(tmp_path: Path) -> None:
    members = {
        f"{label}/{n}.csv": table(["Age group"], [[group]])
        for label in "ab"
        for n, group in enumerate(("child", "adult"))
    }
    source = as_folder(members, tmp_path / "x")
    report, store = converted(source, tmp_path, split_by="age group=child")
    assert {store.names[n] for n in store.splits["age_group_test"]} == {"a/0", "b/0"} and report.splits[
        "age_group_train"
    ] == 2
    assert any("1 of 2 values of age group test (child), as asked for" in note for note in report.notes)
    assert "no age group 'baby' to test: there are adult, child" in refusal(
        source, tmp_path / "2", split_by="age group=baby"
    )
    assert "have no column 'height class'" in refusal(source, tmp_path / "3", split_by="height class")
    members = {
        f"{group}/{label}/{n}.csv": table([], [[]], n)
        for group in ("Adults", "Children")
        for label in "ab"
        for n in (1, 2)
    }
    report, _ = converted(as_folder(members, tmp_path / "y"), tmp_path / "4", split_by="folder:1=Children")
    assert report.splits == {"folder_1_test": 4, "folder_1_train": 4}


@pytest.mark.parametrize(
    ("written", "stored"),
    [("Training", "train"), ("TEST", "test"), ("validation", "val"), ("train1", "1_train"),
     ("test_fold2", "fold2_test"), ("xsub_val", "xsub_val"), ("constrain", "constrain"), ("holdout", "holdout")],
)  # fmt: skip
def test_names_of_splits(written: str, stored: str) -> None:
    assert split_name(written) == stored


def test_a_split_that_is_no_part_of_a_protocol_is_refused(tmp_path: Path) -> None:
    members = {f"{label}/{n}.csv": table(["split"], [["holdout" if n else "Train"]]) for label in "ab" for n in (0, 1)}
    message = refusal(as_folder(members, tmp_path / "x"), tmp_path)
    assert "a split is called 'holdout', which is no part of a protocol: name splits train and test" in message


# class names, labels, reasons


def test_blanks_around_names_make_no_classes(tmp_path: Path) -> None:
    members = {"walk /1.csv": table([], [[]]), "walk/2.csv": table([], [[]]), " sit/3.csv": table([], [[]])}
    assert converted(as_folder(members, tmp_path / "x"), tmp_path)[1].classes == ["sit", "walk"]
    np.savez(tmp_path / "all.npz", keypoints=np.full((2, 1, 3, 25, 3), 2.0), labels=np.array(["a ", " a"]))
    assert converted(tmp_path / "all.npz", tmp_path / "2")[1].classes == ["a"]


def annotations(labels: list[int]) -> list[dict]:
    points = np.random.default_rng(0).normal(size=(1, 4, 17, 2)).astype("f4")
    return [{"frame_dir": f"v{n}", "label": label, "keypoint": points + n} for n, label in enumerate(labels)]


def test_labels_from_1_leave_no_class_empty(tmp_path: Path) -> None:
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(annotations([1, 2, 3, 1])))
    report, store = converted(tmp_path / "x.pkl", tmp_path)
    assert store.classes == ["class 1", "class 2", "class 3"] and store.labels.tolist() == [0, 1, 2, 0]
    assert any("labels begin at 1" in note for note in report.notes)
    (tmp_path / "names.txt").write_text("a\nb\nc\n")
    assert labelled(converted(tmp_path / "x.pkl", tmp_path / "2", classes=tmp_path / "names.txt")[1])["v2"] == "c"
    (tmp_path / "y.pkl").write_bytes(pickle.dumps(annotations([1, 3])))
    assert converted(tmp_path / "y.pkl", tmp_path / "3")[1].labels.tolist() == [1, 3], "2 is left out: no proof of that"


def test_reasons_are_counted(tmp_path: Path) -> None:
    reasons = [
        ("d", "is damaged"),
        *((f"r{n}", f"has the label {n}, and there are 3 classes (from 0)") for n in (7, 8)),
    ]
    assert counted_reasons(reasons) == (
        "2 (r7 first) have the label ..., and there are 3 classes (from 0); 1 (d) is damaged"
    )
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(annotations([5, 6, 7])))
    (tmp_path / "names.txt").write_text("a\nb\n")
    message = refusal(tmp_path / "x.pkl", tmp_path, classes=tmp_path / "names.txt")
    assert (
        "none of the 3 recordings" in message and "3 (v0 first) have the label ..., and there are 2 classes" in message
    )


def test_nan_everywhere_is_called_so(tmp_path: Path) -> None:
    members = {f"{label}/1.csv": table([], [[]]) for label in "ab"} | {
        "a/2.csv": table([], []) + b"nan," * 33 + b"nan\n"
    }
    report, _ = converted(as_folder(members, tmp_path / "x"), tmp_path)
    assert report.skipped == [("a/2", "has NaN or infinite values wherever it is not 0, so no joint in any frame")]


@pytest.mark.parametrize("text", ["", "folder:0", "folder:x", "column:"])
def test_a_wrong_source_of_classes_is_refused(text: str) -> None:
    with pytest.raises(DataError, match="--classes-from"):
        classes_from(text)


# the inputs of others


@pytest.mark.parametrize(
    ("name", "counts", "frames"),
    [
        ("01_frames_with_class_column.csv", {"left": 1, "right": 1, "squat": 1}, [60, 60, 60]),
        ("02_label_changes.csv", {"rest": 1, "squat": 1}, [40, 75]),
    ],
)
def test_cases_of_labels_that_change(tmp_path: Path, name: str, counts: dict[str, int], frames: list[int]) -> None:
    report, store = converted(case(name), tmp_path)
    assert report.class_counts == counts and store.frames.tolist() == frames


@pytest.mark.long
def test_kinder_gator_converts_by_its_columns(tmp_path: Path) -> None:
    report, store = converted(real("kinder-gator-raw.tar.gz"), tmp_path, split_by="subject")
    assert (report.clips, report.frames, len(store.classes)) == (1159, 194451, 58), "frames moved to even time"
    assert len(set(store.subjects)) == 20 and report.splits == {"subject_test": 231, "subject_train": 928}
