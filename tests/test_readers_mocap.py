"""Motion capture: ASF/AMC against HDM05's own positions, BVH by hand, C3D written by the package that reads it."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
import pytest

from skag.readers import asf_amc, bvh
from skag.readers.archives import Files
from skag.readers.mocap import field_names, rotations
from tests.helpers.recordings import as_folder, as_zip, case, converted, refusal

# ASF and AMC


def test_hdm05_has_the_positions_that_its_own_tools_computed() -> None:
    """The .mat beside it was made by the parser of HDM05; inches, so times 0.0254 metres."""
    from scipy.io import loadmat

    folder = case("hdm05")
    ((_, motion),) = asf_amc._motions(Files(folder))
    told = loadmat(next(folder.glob("*.mat")))["mot"][0, 0]
    wanted = {
        str(name[0][0]): track[0] for name, track in zip(told["boneNames"], told["jointTrajectories"], strict=True)
    }
    skeleton = asf_amc.read_asf(next(Files(folder).read(lambda name: name.endswith(".asf"))))
    assert len(skeleton.order) == 31 == len(wanted) and motion.points.shape == (241, 31, 3)
    for number, bone in enumerate(skeleton.order):
        assert np.abs(motion.points[:, number] - wanted[bone].T * 0.0254).max() < 1e-5, bone


def hdm05_folder(tmp_path: Path) -> Path:
    folder = case("hdm05")
    amc, asf = (next(folder.glob(pattern)).read_bytes() for pattern in ("*.amc", "*.asf"))
    members = {f"{label}/HDM_mm_{n}.amc": amc for label in ("walk", "sit") for n in range(2)}
    return as_folder({"HDM_mm.asf": asf, **members}, tmp_path / "x")


def test_a_folder_of_amc_files_with_their_asf(tmp_path: Path) -> None:
    report, store = converted(hdm05_folder(tmp_path), tmp_path)
    assert store.names == ["sit/HDM_mm_0", "walk/HDM_mm_0", "sit/HDM_mm_1", "walk/HDM_mm_1"]
    assert report.layout == "asf-amc" and report.skipped == []
    layout, clip = store.layout, store.keypoints(0)[0]
    assert {"left knee", "right wrist", "left toes", "left shoulder"} <= set(layout.joints)
    assert set(layout.parts) == {"trunk", "left leg", "right leg", "left arm", "right arm"}
    assert layout.joints[layout.mirror_index[layout.index["left knee"]]] == "right knee"
    assert not any("exchanged" in note for note in report.notes), "toes point to the front"
    heights = np.median(clip[:, :, 1], axis=0)
    assert 1.0 < heights[layout.index["head"]] < 2 and heights[layout.index["left toes"]] < 0.2, "metres, y up"


def test_names_of_hdm05_say_who_does_what_and_at_which_rate(tmp_path: Path) -> None:
    folder = case("hdm05")
    amc, asf = (next(folder.glob(pattern)).read_bytes() for pattern in ("*.amc", "*.asf"))
    names = [
        f"HDM_{who}_{what}_{take}_120.amc" for who in ("mm", "bd") for what in ("clap", "jog") for take in ("001",)
    ]
    members = {"HDM_mm.asf": asf, "HDM_bd.asf": asf, **dict.fromkeys(names, amc)}
    report, store = converted(as_folder(members, tmp_path / "x"), tmp_path)
    assert store.classes == ["clap", "jog"] and set(store.frame_rates) == {120} and len(set(store.subjects)) == 2
    assert "{label}" in report.classes_from and not any("offsets" in note for note in report.notes)
    in_folders = {f"{name.split('_')[2]}ping/{name}": amc for name in names} | {"HDM_mm.asf": asf, "HDM_bd.asf": asf}
    _, store = converted(as_folder(in_folders, tmp_path / "y"), tmp_path)
    assert store.classes == ["clapping", "jogping"] and len(set(store.subjects)) == 2


def test_amc_without_or_with_a_damaged_skeleton(tmp_path: Path) -> None:
    folder = hdm05_folder(tmp_path)
    asf = (folder / "HDM_mm.asf").read_bytes()
    (folder / "HDM_mm.asf").write_bytes(b":bonedata\n")
    assert "has no bones that hang on the root" in refusal(folder, tmp_path)
    (folder / "HDM_mm.asf").unlink()
    assert "put its .asf beside it" in refusal(folder, tmp_path)
    (folder / "HDM_mm.asf").write_bytes(asf)
    (folder / "walk" / "HDM_mm_0.amc").write_bytes(b"1\nroot 1 2 3\n")
    (folder / "walk" / "HDM_mm_1.amc").write_bytes(b"1\ntail 1\n")
    report, _ = converted(folder, tmp_path)
    assert [reason for _, reason in report.skipped] == [
        "has 3 numbers for root on line 2, not 6", "moves 'tail' on line 2, which its skeleton lacks"
    ]  # fmt: skip


# BVH

BVH = """HIERARCHY
ROOT Hips
{
  OFFSET 0 0 0
  CHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation Yrotation
  JOINT LeftUpLeg
  {
    OFFSET 1 0 0
    CHANNELS 3 Zrotation Xrotation Yrotation
    JOINT LeftLeg
    {
      OFFSET 0 -4 0
      CHANNELS 3 Zrotation Xrotation Yrotation
      End Site
      {
        OFFSET 0 -4 0
      }
    }
  }
  JOINT LeftForeArm
  {
    OFFSET 0 5 0
    CHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation Yrotation
  }
}
MOTION
Frames: 2
Frame Time: 0.05
0 9 0  0 0 0  0 0 0  0 0 0  0 5 0 0 0 0
1 9 2  90 0 0  0 90 0  0 0 0  0 5 0 0 0 0
"""


def test_bvh_by_hand(tmp_path: Path) -> None:
    (tmp_path / "a.bvh").write_text(BVH)
    ((_, motion),) = bvh._motions(Files(tmp_path / "a.bvh"))
    assert motion.names == ("hips", "left hip", "left knee", "left knee end", "left elbow") and motion.rate == 20
    at_rest = [[0, 9, 0], [1, 9, 0], [1, 5, 0], [1, 1, 0], [0, 14, 0]]
    # The root turns 90 degrees about z: x becomes y, y becomes -x. The hip then turns 90 degrees about its own x, which
    # takes the thigh from -y to -z. The arm's places stand for its offset.
    turned = [[1, 9, 2], [1, 10, 2], [1, 10, -2], [1, 10, -6], [-4, 9, 2]]
    assert np.allclose(motion.points, [at_rest, turned], atol=1e-5)


def test_the_order_of_rotations() -> None:
    """R = Rz Rx: x is turned first. y goes to z by 90 degrees about x, and stays there; x goes to y about z."""
    turn = rotations(np.array([[90.0, 90.0]]), "zx")[0]
    assert np.allclose(turn @ [0, 1, 0], [0, 0, 1]) and np.allclose(turn @ [1, 0, 0], [0, 1, 0])


def test_bvh_files(tmp_path: Path) -> None:
    members = {f"{label}/{n}.bvh": BVH.encode() for label in ("walk", "sit") for n in range(2)}
    report, store = converted(as_zip(members, tmp_path / "x.zip"), tmp_path / "a")
    assert store.names == ["sit/0", "walk/0", "sit/1", "walk/1"] and report.layout == "bvh"
    members |= {"sit/8.bvh": b"HIERARCHY\nROOT a\n{\n", "sit/9.bvh": BVH.replace("0 9 0  0", "0 9 0").encode()}
    members["sit/7.bvh"] = BVH.replace("LeftLeg", "Other").encode()
    report, _ = converted(as_folder(members, tmp_path / "y"), tmp_path / "b")
    assert [reason for _, reason in report.skipped] == [
        "has no joint 'left knee', which layout bvh needs",
        "has no whole HIERARCHY: it is no BVH file, or cut off",
        "has 17 numbers on line 29, and its channels are 18",
    ]


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["mixamorig:Hips", "mixamorig:LeftUpLeg", "mixamorig:LeftForeArm", "mixamorig:LeftArm"],
         ["hips", "left hip", "left elbow", "left shoulder"]),
        (["lfemur", "rfemur", "lowerback"], ["left femur", "right femur", "lowerback"]),
        (["LASI", "RASI", "SACR"], ["left asi", "right asi", "sacr"]),
        (["LeftUpLeg", "LeftArm"], ["left up leg", "left arm"]),
        (["Head", "head"], ["Head", "head"]),
    ],
)  # fmt: skip
def test_names_of_files_in_the_fields_words(names: list[str], told: list[str]) -> None:
    assert field_names(names) == told


# C3D

MARKERS = """
name = "markers"
dims = 3
up = "z"
centre = "SACR"
joints = ["SACR", "left asi", "right asi"]
[bones]
"left asi" = "SACR"
"right asi" = "SACR"
[parts]
trunk = ["SACR", "left asi", "right asi"]
"""


def c3d_file(points: np.ndarray, labels: list[str]) -> bytes:
    """`[T, V, 3]` in millimetres, the unit that the package writes; a marker of zeros was not seen."""
    c3d = pytest.importorskip("c3d")
    writer = c3d.Writer(point_rate=100)
    seen = points.any(-1, keepdims=True)
    frames = np.concatenate([points, np.where(seen, 0.5, -1), np.zeros_like(seen, float)], -1).astype("f4")
    writer.add_frames([(frame, np.zeros((0, 0))) for frame in frames])
    writer.set_point_labels(labels)
    buffer = io.BytesIO()
    with warnings.catch_warnings(action="ignore"):  # it misses the analog data
        writer.write(buffer)
    return buffer.getvalue()


def test_markers_of_c3d(tmp_path: Path) -> None:
    points = np.random.default_rng(0).uniform(100, 900, (4, 4, 3))
    points[2, 0] = 0
    data = c3d_file(points, ["LASI", "RASI", "KNEE", "SACR"])
    source = as_folder({f"{label}/{n}.c3d": data for label in ("walk", "sit") for n in range(2)}, tmp_path / "x")
    message = refusal(source, tmp_path)
    assert "4 markers and no skeleton" in message and "left asi" in message and "--layout FILE.toml" in message
    layout = tmp_path / "markers.toml"
    layout.write_text(MARKERS)
    _, store = converted(source, tmp_path, layout=str(layout))
    wanted = points[:, [3, 0, 1]] / 1000
    assert np.allclose(store.keypoints(0)[0], wanted, atol=1e-4) and not store.keypoints(0)[0, 2, 1].any()
    (source / "sit" / "9.c3d").write_bytes(data[:600])
    report, _ = converted(source, tmp_path, layout=str(layout))
    assert report.skipped[0][0] == "sit/9"
