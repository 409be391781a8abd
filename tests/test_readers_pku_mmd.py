"""PKU-MMD part 1, on a sample made as the published files are: names, columns, classes from 1, both splits."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from skag.skeleton.layouts import load_layout
from tests.helpers.recordings import as_folder, as_zip, converted, refusal

SKELETONS, LABELS = "Skeleton/PKU_Skeleton_Renew", "Label/Train_Label_PKU_final"


def skeleton(frames: int, people: int, seed: int) -> np.ndarray:
    """`[frames, 150]`: the second person is zeros where there is one."""
    values = np.random.default_rng(seed).normal(size=(frames, 2, 75)).round(4)
    values[:, people:] = 0
    return values.reshape(frames, 150)


def text(values: np.ndarray) -> bytes:
    return "".join(" ".join(f"{x:.4f}" for x in row) + " \n" for row in values).encode()


def members() -> dict[str, bytes]:
    found = {}
    for name, people in (("0002-L", 1), ("0002-M", 2), ("0291-R", 1)):
        found[f"{SKELETONS}/{name}.txt"] = text(skeleton(20, people, int(name[:4])))
        found[f"{LABELS}/{name}.txt"] = b"1,1,5,2\n14,6,12,1\n51,13,20,2\n"
    found["Split/cross-subject.txt"] = b"Training videos:\n0002-L, 0002-M, 0002-R\n\nValidataion videos:\n0291-R\n"
    found["Split/cross-view.txt"] = b"Training videos:\n0002-M, 0291-R\nValidataion videos:\n0002-L\n"
    return found


def test_actions_are_cut_out_of_the_recordings(tmp_path: Path) -> None:
    for number, pack in enumerate((as_folder, as_zip)):
        report, store = converted(pack(members(), tmp_path / f"x{number}"), tmp_path / str(number))
        assert (report.layout, report.clips, report.skipped, len(store.classes)) == ("nturgb+d", 9, [], 51)
        assert store.names[:4] == ["0002-L_001", "0002-L_002", "0002-L_003", "0002-M_001"]
        assert [store.classes[label] for label in store.labels[:3]] == ["bow", "handshaking", "writing"]
        assert store.frames[:3].tolist() == [5, 7, 8] and store.cameras.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
        wanted = skeleton(20, 2, 2).reshape(20, 2, 25, 3).swapaxes(0, 1)
        assert np.allclose(store.keypoints(4), wanted[:, 5:12], atol=1e-4), "frames 6 to 12, counted from 1"
        assert np.allclose(store.keypoints(0), wanted[:1, :5], atol=1e-4), "nobody else is there"
        assert {name: numbers.tolist() for name, numbers in store.splits.items()} == {
            "xsub_train": [0, 1, 2, 3, 4, 5], "xsub_test": [6, 7, 8],
            "xview_train": [3, 4, 5, 6, 7, 8], "xview_test": [0, 1, 2],
        }  # fmt: skip


def test_classes_are_alphabetical_and_joints_those_of_ntu(tmp_path: Path) -> None:
    _, store = converted(as_folder(members(), tmp_path / "x"), tmp_path)
    assert store.classes == sorted(store.classes) and len(set(store.classes)) == 51
    assert store.layout.joints == load_layout("kinect-v2").joints


def test_what_cannot_be_used_is_named(tmp_path: Path) -> None:
    found = members()
    found[f"{LABELS}/0002-L.txt"] = b"1,1,5,2\n2,19,25,2\n"
    found[f"{LABELS}/0002-M.txt"] = b"1,1\n"
    found[f"{LABELS}/0400-L.txt"] = b"1,1,2\n"
    found[f"{SKELETONS}/0291-R.txt"] = b"1 2 3\n"
    report, store = converted(as_folder(found, tmp_path / "x"), tmp_path)
    assert store.names == ["0002-L_001"]
    assert dict(report.skipped) == {
        "0002-L_002": "ends in frame 25, and the recording has 20",
        "0002-M": "has labels that cannot be used: it has no class, start and end on line 1",
        **{f"0291-R_00{n}": "has 3 values on line 1, not 150" for n in (1, 2, 3)},
    }
    assert any("1 recording has labels and no skeletons here, such as 0400-L" in note for note in report.notes)
    only = {name: data for name, data in members().items() if "Label" not in name}
    assert "a folder of labels" in refusal(as_folder(only, tmp_path / "y"), tmp_path / "y1", format="pku-mmd")
