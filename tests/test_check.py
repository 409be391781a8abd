"""Every kind of finding: a store made to have it, and the sound one that has none."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from typer.testing import CliRunner

from skag.cli import app
from skag.convert import convert
from skag.errors import DataError
from skag.skeleton.check import Finding, check
from skag.skeleton.layouts import Layout, load_layout
from skag.skeleton.offsets import look_like_offsets
from skag.skeleton.simulate import ACTIONS, simulate
from skag.skeleton.store import Clip, SkeletonStore, is_as_written, write_store
from tests.helpers.recordings import as_folder, case, converted, real, refusal

LAYOUT = load_layout("nturgb+d")
IMAGE = load_layout("coco")


@pytest.fixture(scope="module")
def clips() -> list[Clip]:
    """Ninety sound clips of nine simulated people; a joint that the camera lost is where its neighbour is."""
    recorded = simulate(subjects=9, repetitions=1)
    split_of = {name: split for split, names in recorded["split"].items() for name in names}
    made, aside = [], np.array([0.01, 0.02, 0.03], np.float32)
    for clip in recorded["annotations"]:
        keypoints = clip["keypoint"].astype(np.float32)
        lost = ~keypoints.any(axis=-1, keepdims=True)
        keypoints = np.where(lost, keypoints[:, :, LAYOUT.bone_parents] + aside, keypoints)
        name = clip["frame_dir"]
        subject, split = int(name[name.index("P") + 1 :][:3]), split_of[name]
        made.append(Clip(name, clip["label"], keypoints, subject=subject, splits=(split,)))
    return made


def seen_by_camera(clips: list[Clip]) -> list[Clip]:
    """The same people as pixels of an image, y down."""
    names = ["head"] * 5
    pairs = ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
    names += [f"{side} {joint}" for joint in pairs for side in ("left", "right")]
    joints = [LAYOUT.index[name] for name in names]
    pixels = np.array([200, -200], np.float32)
    return [
        replace(clip, keypoints=320 + pixels * clip.keypoints[:, :, joints, :2], width=640, height=640)
        for clip in clips
    ]


def findings(path: Path, clips: list[Clip], classes: list[str] | None = None, layout=LAYOUT) -> dict[str, Finding]:
    with write_store(path / "made.h5", layout) as writer:
        for clip in clips:
            writer.add(clip)
        writer.finish(list(ACTIONS) if classes is None else classes)
    with SkeletonStore(path / "made.h5") as store:
        report = check(store)
    found = {finding.kind: finding for finding in report.findings}
    assert len(found) == len(report.findings)
    assert report.ok == all(finding.level == "remark" for finding in report.findings)
    assert report.clips == len(clips) and all(len(finding.names) <= 3 and finding.advice for finding in found.values())
    return found


def changed(clips: list[Clip], numbers: range | list[int], change: Callable[[np.ndarray], np.ndarray]) -> list[Clip]:
    """The clips, some of them with other key points."""
    made = list(clips)
    for number in numbers:
        made[number] = replace(made[number], keypoints=change(made[number].keypoints.copy()))
    return made


def with_value(value: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(keypoints: np.ndarray) -> np.ndarray:
        keypoints[0, 3, 5, 1] = value
        return keypoints

    return change


def still(keypoints: np.ndarray) -> np.ndarray:
    return np.repeat(keypoints[:, :1], keypoints.shape[1], axis=1)


def padded(keypoints: np.ndarray) -> np.ndarray:
    """Filled up with the last frame to more than twice the length."""
    return np.concatenate([keypoints, *[keypoints[:, -1:]] * (keypoints.shape[1] + 2)], axis=1)


def with_zeros_after(keypoints: np.ndarray) -> np.ndarray:
    return np.concatenate([keypoints, np.zeros_like(keypoints), np.zeros_like(keypoints)], axis=1)


def without_joint(keypoints: np.ndarray) -> np.ndarray:
    keypoints[:, 4:8, LAYOUT.index["left hand"]] = 0
    return keypoints


def with_stuck_joint(keypoints: np.ndarray) -> np.ndarray:
    hand = LAYOUT.index["left hand"]
    keypoints[:, :, hand] = keypoints[:, :1, hand]
    return keypoints


def upside_down(keypoints: np.ndarray) -> np.ndarray:
    return keypoints * np.array([1, -1, 1], np.float32)


def test_sound_recordings_have_no_findings(tmp_path, clips):
    assert findings(tmp_path, clips) == {}


def test_sound_key_points_in_images_have_no_findings(tmp_path, clips):
    assert findings(tmp_path, seen_by_camera(clips), layout=IMAGE) == {}


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_no_numbers(tmp_path, clips, value):
    found = findings(tmp_path, changed(clips, [1, 2, 3, 8], with_value(value)))
    assert list(found) == ["not-finite"]
    assert (found["not-finite"].level, found["not-finite"].clips) == ("error", 4)
    assert found["not-finite"].names == tuple(clips[number].name for number in (1, 2, 3))


def test_confidence_that_is_no_number(tmp_path, clips):
    scored = [replace(clip, confidence=np.ones(clip.keypoints.shape[:3], np.float32)) for clip in clips]
    assert findings(tmp_path, scored) == {}
    scored[7].confidence[0, 0, 0] = np.nan
    assert findings(tmp_path, scored)["not-finite"].names == (clips[7].name,)


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("one-frame", lambda keypoints: keypoints[:, :1]),
        ("motionless", still),
        ("frozen-frames", padded),
        ("unseen-frames", with_zeros_after),
        ("upside-down", upside_down),
    ],
)
def test_a_blemish_is_a_remark_and_an_error_where_many_clips_have_it(tmp_path, clips, kind, change):
    few = findings(tmp_path, changed(clips, [4, 70], change))
    assert list(few) == [kind] and (few[kind].level, few[kind].clips) == ("remark", 2)
    many = findings(tmp_path, changed(clips, range(20), change))
    assert (many[kind].level, many[kind].clips) == ("error", 20)


@pytest.mark.parametrize(
    ("kind", "change"), [("missing-joints", without_joint), ("missing-as-number", with_stuck_joint)]
)
def test_joints_that_some_clips_lost_are_remarked(tmp_path, clips, kind, change):
    found = findings(tmp_path, changed(clips, range(30), change))
    assert list(found) == [kind] and (found[kind].level, found[kind].clips) == ("remark", 30)


@pytest.mark.parametrize("position", [0.0, 1.5])
def test_a_joint_that_no_clip_has_or_that_never_moves(tmp_path, clips, position):
    def change(keypoints: np.ndarray) -> np.ndarray:
        keypoints[:, :, LAYOUT.index["right thumb"]] = position
        return keypoints

    found = findings(tmp_path, changed(clips, range(len(clips)), change))
    assert found["dead-joint"].level == "error" and found["dead-joint"].names == ("right thumb",)


def test_recordings_centred_on_the_centre_joint_are_sound(tmp_path, clips):
    centre = LAYOUT.index[LAYOUT.centre]
    centred = changed(clips, range(len(clips)), lambda keypoints: keypoints - keypoints[:, :, centre : centre + 1])
    assert findings(tmp_path, centred) == {}


def test_clips_with_nobody_in_them(tmp_path, clips):
    found = findings(tmp_path, changed(clips, [5], np.zeros_like))
    assert list(found) == ["no-body"] and found["no-body"].names == (clips[5].name,)


@pytest.mark.parametrize("label", [-1, len(ACTIONS)])
def test_labels_that_are_no_class(tmp_path, clips, label):
    found = findings(tmp_path, [replace(clips[0], label=label), *clips[1:]])
    assert list(found) == ["label-range"] and found["label-range"].names == (clips[0].name,)


@pytest.mark.parametrize(
    ("factor", "level", "word"),
    [(100, "remark", "centimetres"), (1000, "remark", "millimetres"), (7, "error", "no unit")],
)
def test_bodies_in_other_units(tmp_path, clips, factor, level, word):
    found = findings(tmp_path, changed(clips, range(len(clips)), lambda keypoints: keypoints * np.float32(factor)))
    assert list(found) == ["unit"] and found["unit"].level == level and word in found["unit"].what


def test_some_clips_in_another_unit(tmp_path, clips):
    found = findings(tmp_path, changed(clips, [3], lambda keypoints: keypoints * np.float32(100)))
    assert list(found) == ["mixed-units"] and found["mixed-units"].names == (clips[3].name,)


def test_left_and_right_exchanged(tmp_path, clips):
    everywhere = changed(clips, range(len(clips)), lambda keypoints: keypoints[:, :, LAYOUT.mirror_index])
    found = findings(tmp_path, everywhere)["sides"]
    assert found.level == "error" and "Left and right look exchanged" in found.what and "order" in found.what


def test_bodies_that_stand_along_another_axis(tmp_path, clips):
    found = findings(tmp_path, changed(clips, range(len(clips)), lambda keypoints: keypoints[..., [0, 2, 1]]))
    assert list(found) == ["up-axis"] and found["up-axis"].level == "error" and "along z" in found["up-axis"].what


@pytest.mark.parametrize(
    "change",
    [lambda keypoints: keypoints / 640, lambda keypoints: keypoints / 320 - 1, lambda keypoints: keypoints + 5000],
)
def test_key_points_outside_their_image(tmp_path, clips, change):
    found = findings(tmp_path, changed(seen_by_camera(clips), [0, 9], change), layout=IMAGE)
    assert list(found) == ["image-size"] and found["image-size"].clips == 2


def test_no_protocol(tmp_path, clips):
    found = findings(tmp_path, [replace(clip, splits=("xsub_train",)) for clip in clips])
    assert list(found) == ["no-protocol"] and "xsub_train" in found["no-protocol"].what


def test_classes_without_clips_and_with_few(tmp_path, clips):
    train = [number for number, clip in enumerate(clips) if clip.label == 2 and clip.splits == ("xsub_train",)]
    kept = [clip for number, clip in enumerate(clips) if number not in train[2:]]
    found = findings(tmp_path, kept, [*ACTIONS, "never seen"])
    assert sorted(found) == ["class-empty", "class-tiny"] and {f.level for f in found.values()} == {"remark"}
    assert found["class-empty"].names == ("never seen",) and found["class-tiny"].names == (ACTIONS[2],)


def test_a_class_that_is_only_tested(tmp_path, clips):
    kept = [clip for clip in clips if clip.label != 2 or clip.splits != ("xsub_train",)]
    found = findings(tmp_path, kept)
    assert list(found) == ["class-untrained"] and found["class-untrained"].clips == 3


def test_a_single_class(tmp_path, clips):
    found = findings(tmp_path, [clip for clip in clips if clip.label == 0], [ACTIONS[0]])
    assert list(found) == ["one-class"]


def test_no_clips(tmp_path):
    assert list(findings(tmp_path, [])) == ["one-class"]


@pytest.mark.parametrize(
    ("protocol", "fact", "kind"),
    [("xsub", "subject", "subject-overlap"), ("xview", "camera", "camera-overlap"), ("xset", "setup", "setup-overlap")],
)
def test_a_group_on_both_sides_of_a_protocol_named_after_it(tmp_path, clips, protocol, fact, kind):
    def named(prefix: str) -> list[Clip]:
        return [
            replace(
                clip, **{fact: 1 + (clip.splits == ("xsub_val",))}, splits=(clip.splits[0].replace("xsub", prefix),)
            )
            for clip in clips
        ]

    moved = named(protocol)
    assert findings(tmp_path, moved) == {}
    moved[0] = replace(moved[0], **{fact: 2})
    found = findings(tmp_path, moved)
    assert list(found) == [kind] and found[kind].clips == sum(clip.splits[0].endswith("val") for clip in moved)
    moved = named("random")
    moved[0] = replace(moved[0], **{fact: 2})
    assert findings(tmp_path, moved) == {}


def test_a_clip_in_both_splits_by_number(tmp_path, clips):
    found = findings(tmp_path, [replace(clips[0], splits=("xsub_train", "xsub_val"), subject=-1), *clips[1:]])
    assert list(found) == ["clip-in-both"] and found["clip-in-both"].names == (clips[0].name,)


def test_a_name_given_twice(tmp_path, clips):
    trained = [number for number, clip in enumerate(clips) if clip.splits == ("xsub_train",)]
    tested = next(number for number, clip in enumerate(clips) if clip.splits == ("xsub_val",))
    renamed = list(clips)
    renamed[trained[1]] = replace(clips[trained[1]], name=clips[trained[0]].name)
    found = findings(tmp_path, renamed)
    assert list(found) == ["name-twice"] and found["name-twice"].level == "remark"
    renamed[tested] = replace(clips[tested], name=clips[trained[0]].name)
    assert findings(tmp_path, renamed)["clip-in-both"].level == "error"


def copy(clip: Clip, noise: float, skipped: int, split: str, label: int | None = None) -> Clip:
    """The clip under another name, somewhere else, with noise in metres and without its first frames."""
    moved = clip.keypoints[:, skipped:] + np.array([0.3, 0, 0.2])
    moved = moved + np.random.default_rng(3).normal(0, noise, moved.shape)
    return Clip(
        f"copy of {clip.name}",
        clip.label if label is None else label,
        moved.astype(np.float32),
        splits=(split,),
    )


@pytest.mark.parametrize(("noise", "skipped"), [(0, 0), (0, 6), (0.0003, 0), (0.0003, 6)])
def test_a_recording_under_two_names(tmp_path, clips, noise, skipped):
    originals = [clips[number] for number in range(0, 60, 5)]
    across = findings(tmp_path, [*clips, *(copy(clip, noise, skipped, "xsub_val") for clip in originals)])
    assert list(across) == ["duplicate-in-both"] and across["duplicate-in-both"].level == "error"
    assert across["duplicate-in-both"].clips == len(originals)
    assert across["duplicate-in-both"].names[0] == f"copy of {clips[0].name} = {clips[0].name}"
    within = findings(tmp_path, [*clips, *(copy(clip, noise, skipped, "xsub_train") for clip in originals)])
    assert list(within) == ["duplicate"] and within["duplicate"].level == "remark"
    labels = findings(tmp_path, [*clips, copy(originals[0], noise, skipped, "xsub_train", originals[0].label + 1)])
    assert list(labels) == ["two-labels"] and labels["two-labels"].level == "error"


def test_a_copy_with_noise_is_shown_with_how_far_it_differs(tmp_path, clips):
    """It could be another take: a remark, also where its label is another and it is tested."""
    found = findings(tmp_path, [*clips, copy(clips[0], 0.005, 6, "xsub_val", clips[0].label + 1)])
    assert list(found) == ["near-duplicate"] and found["near-duplicate"].level == "remark"
    (name,) = found["near-duplicate"].names
    assert name.startswith(f"copy of {clips[0].name} ~ {clips[0].name} (") and name.endswith(" % of the body)")
    assert 0.2 < float(name.split("(")[1].split()[0]) < 2


@pytest.mark.parametrize("folder", ["kinder_gator_two_labels"])
def test_two_takes_are_not_the_same_recording(tmp_path, folder):
    convert(case(folder), tmp_path / "takes.h5")
    with SkeletonStore(tmp_path / "takes.h5") as store:
        kinds = {finding.kind for finding in check(store).findings}
    assert not kinds & {"two-labels", "duplicate", "duplicate-in-both", "near-duplicate"}


@pytest.mark.long
def test_the_95_copies_in_nw_ucla_stay_found(tmp_path):
    convert(real("nw-ucla-raw.tar.gz"), tmp_path / "ucla.h5")
    with SkeletonStore(tmp_path / "ucla.h5") as store:
        found = {finding.kind: finding for finding in check(store).findings}
    assert (found["duplicate-in-both"].clips, found["two-labels"].clips, found["duplicate"].clips) == (95, 2, 2)
    assert "near-duplicate" not in found


def test_equal_clips_without_motion_are_found_too(tmp_path, clips):
    one_frame = replace(clips[0], keypoints=clips[0].keypoints[:, :1])
    again = Clip("again", one_frame.label, one_frame.keypoints, splits=("xsub_val",))
    assert set(findings(tmp_path, [one_frame, *clips[1:], again])) == {"one-frame", "duplicate-in-both"}


def test_two_bodies_are_compared_together(tmp_path, clips):
    """Who stands beside a copied person counts: two different second bodies, two recordings."""

    def beside(one: Clip, other: Clip) -> np.ndarray:
        frames = min(one.keypoints.shape[1], other.keypoints.shape[1])
        return np.concatenate([one.keypoints[:, :frames], other.keypoints[:, :frames] + 1])

    pairs = [replace(clip, keypoints=beside(clip, clips[n - 7])) for n, clip in enumerate(clips)]
    assert findings(tmp_path, pairs) == {}
    other = Clip("other", clips[0].label, beside(clips[0], clips[40]), splits=("xsub_val",))
    assert findings(tmp_path, [*pairs, other]) == {}
    assert list(findings(tmp_path, [*pairs, copy(pairs[0], 0.0003, 4, "xsub_val")])) == ["duplicate-in-both"]


def test_clips_of_several_frame_rates(tmp_path, clips):
    known = [replace(clip, frame_rate=30.0) for clip in clips[1:]]
    assert findings(tmp_path, [replace(clips[0], frame_rate=29.97), *known]) == {}
    found = findings(tmp_path, [replace(clips[0], frame_rate=120.0), clips[1], *known[1:]])
    assert list(found) == ["mixed-rates"] and found["mixed-rates"].level == "remark"
    assert found["mixed-rates"].names == (clips[0].name,)
    assert "30 Hz (88), 120 Hz (1) and unknown (1)" in found["mixed-rates"].what


def test_a_confidence_that_is_near_0_everywhere(tmp_path, clips):
    scored = [replace(clip, confidence=np.full(clip.keypoints.shape[:3], 0.9, np.float32)) for clip in clips]
    low = [replace(clip, confidence=np.full(clip.keypoints.shape[:3], 0.001, np.float32)) for clip in clips]
    few, many = (findings(tmp_path, [*low[:n], *scored[n:]])["no-confidence"] for n in (2, 20))
    assert (few.level, few.clips, many.level, many.clips) == ("remark", 2, "error", 20)


@pytest.mark.parametrize("turned", [False, True])
def test_offsets_from_the_parent_joint(tmp_path, clips, turned):
    """As motion capture keeps them: in the room's axes, or in those of the parent, where bones stand still."""
    parents = np.array([LAYOUT.index[LAYOUT.bones.get(joint, joint)] for joint in LAYOUT.joints])
    rigid = []
    for clip in clips:
        offsets = clip.keypoints - clip.keypoints[:, :, parents]
        lengths = np.linalg.norm(offsets, axis=-1, keepdims=True)
        usual = np.median(lengths, axis=1, keepdims=True)
        offsets = offsets / np.maximum(lengths, 1e-9) * usual
        if not turned:
            down = np.array([0, -1, 0], np.float32)
            offsets = np.broadcast_to(usual * down, offsets.shape) + np.random.default_rng(0).normal(
                0, 1e-3, offsets.shape
            )
            arms = [v for v, joint in enumerate(LAYOUT.joints) if not joint.endswith(("hip", "knee", "ankle", "foot"))]
            offsets[:, :, arms] *= -1
        root = LAYOUT.index[LAYOUT.root]
        offsets[:, :, root] = clip.keypoints[:, :, root]
        rigid.append(replace(clip, keypoints=offsets.astype(np.float32)))
    assert findings(tmp_path, rigid)["offsets"].level == "error"


def test_offsets_of_a_rehabilitation_set():
    """UI-PRMD by Kinect: local places of 22 joints, 66 numbers a line."""
    chain = {"spine": "waist", "chest": "spine", "neck": "chest", "head": "neck", "head tip": "head"}
    parts = {"trunk": ("waist", "spine", "chest", "neck"), "head": ("head", "head tip")}
    for limb, base in (("collar upper_arm forearm hand", "chest"), ("thigh shin foot toes", "waist")):
        for side in ("left", "right"):
            joints = tuple(f"{side} {joint.replace('_', ' ')}" for joint in limb.split())
            chain.update(zip(joints, (base, *joints[:-1]), strict=True))
            parts[f"{side} {'arm' if base == 'chest' else 'leg'}"] = joints
    layout = Layout("ui-prmd", 3, ("waist", *chain), chain, "waist", parts)
    text = gzip.decompress((case("ui_prmd") / "m01_s01_e01_positions.txt.gz").read_bytes()).decode()
    body = np.array([line.split(",") for line in text.split()], float).reshape(-1, 22, 3)
    there = body.any(axis=-1)
    assert look_like_offsets(body, there, layout)
    order = [layout.index[chain.get(joint, joint)] for joint in layout.joints]
    for joint in range(1, 22):  # as places: each joint added to its parent, which stands before it
        body[:, joint] += body[:, order[joint]]
    assert not look_like_offsets(body, there, layout)


def test_any_flipped_byte_is_found(tmp_path, clips):
    """In the head, in HDF5's own records, in names and numbers: all of them, and never a traceback."""
    findings(tmp_path, clips)
    sound = (tmp_path / "made.h5").read_bytes()
    rng = np.random.default_rng(0)
    places = [0, 8, 70, 500, 512, 520, *rng.integers(512, len(sound), 60), *range(len(sound) - 4000, len(sound), 200)]
    for place in map(int, places):
        damaged = bytearray(sound)
        damaged[place] ^= 1 << int(rng.integers(8))
        (tmp_path / "flipped.h5").write_bytes(damaged)
        assert is_as_written(tmp_path / "flipped.h5") is False, place
    (tmp_path / "short.h5").write_bytes(sound[:-1])
    assert is_as_written(tmp_path / "short.h5") is False
    assert is_as_written(tmp_path / "made.h5") is True


def test_changed_bytes_are_an_error_of_check(tmp_path, clips):
    findings(tmp_path, clips)
    data = bytearray((tmp_path / "made.h5").read_bytes())
    place = data.find(clips[5].keypoints[0, 3].tobytes())
    data[place + 1] ^= 1  # the last bit but some of one coordinate
    (tmp_path / "made.h5").write_bytes(data)
    with SkeletonStore(tmp_path / "made.h5") as store:
        report = check(store)
    assert [finding.kind for finding in report.findings if finding.level == "error"] == ["changed-bytes"]
    assert not report.ok


@pytest.fixture
def stored(tmp_path, clips) -> Path:
    findings(tmp_path, clips)
    return tmp_path / "made.h5"


def test_a_layout_that_the_arrays_do_not_have(stored):
    with h5py.File(stored, "r+") as file:
        file.attrs["layout"] = load_layout("kinect-v1").to_json()
    with SkeletonStore(stored) as store:
        finding, edited = check(store).findings
    assert edited.kind == "changed-bytes"
    assert finding.kind == "joint-count" and "25 x 3" in finding.what and "20 joints" in finding.what


def test_clips_whose_rows_are_not_there(stored):
    with h5py.File(stored, "r+") as file:
        file["clips/offset"][-2:] = len(file["keypoints"])
    with SkeletonStore(stored) as store:
        found = [(f.kind, f.clips, f.level) for f in check(store).findings]
    assert found == [("unreadable", 2, "error"), ("changed-bytes", 90, "error")]


def test_splits_that_name_clips_that_are_not_there(stored):
    with h5py.File(stored, "r+") as file:
        file["splits/xsub_val"][:2] = (999, -5)
    with SkeletonStore(stored) as store:
        found = [(f.kind, f.clips) for f in check(store).findings]
    assert found == [("split-range", 2), ("changed-bytes", 90)]


def test_names_that_cannot_be_read(stored):
    with h5py.File(stored, "r+") as file:
        file["clips/name_bytes"][:3] = 0xFF
    with SkeletonStore(stored) as store, pytest.raises(DataError, match="names of clips"):
        check(store)


def test_progress_reaches_the_last_clip(stored):
    seen = []
    with SkeletonStore(stored) as store:
        check(store, lambda done, total: seen.append((done, total)))
    assert seen[0] == (0, 90) and seen[-1] == (90, 90)


def test_the_command_says_what_and_leaves_1_for_errors_only(tmp_path, clips):
    def run(*options: str):
        return CliRunner().invoke(app, ["check", str(tmp_path / "made.h5"), *options])

    findings(tmp_path, clips)
    sound = run()
    assert sound.exit_code == 0 and "90 clips" in sound.stdout and "no errors, no remarks" in sound.stdout
    findings(tmp_path, changed(clips, [2], still))
    assert run().exit_code == 0 and clips[2].name in run().stdout
    findings(tmp_path, changed(clips, [2], with_value(np.nan)))
    assert run().exit_code == 1 and clips[2].name in run().stdout
    document = json.loads(run("--json", "--quiet").stdout)
    assert document["ok"] is False and document["clips"] == 90
    assert [(f["kind"], f["level"], f["clips"]) for f in document["findings"]] == [("not-finite", "error", 1)]


def test_places_that_are_offsets_from_the_joint_before_them(tmp_path, clips):
    def offsets(keypoints):
        root = LAYOUT.index[LAYOUT.root]
        parents = [LAYOUT.index[LAYOUT.bones.get(joint, joint)] for joint in LAYOUT.joints]
        changed = keypoints - keypoints[:, :, parents]
        changed[:, :, root] = keypoints[:, :, root]
        return changed

    found = findings(tmp_path, changed(clips, range(len(clips)), offsets))["offsets"]
    assert (
        found.level == "error"
        and found.clips > 0.5 * len(clips)
        and "Add to every joint the place of its parent" in found.advice
    )


def test_the_offsets_of_ui_prmd_are_recognised(tmp_path):
    joints = ["root", *(f"j{n}" for n in range(1, 22))]
    before = [0, 1, 2, 3, 4, 2, 6, 7, 8, 2, 10, 11, 12, 0, 14, 15, 16, 0, 18, 19, 20]
    bones = "\n".join(f'"{joints[n]}" = "{joints[parent]}"' for n, parent in enumerate(before, 1))
    layout = tmp_path / "ui.toml"
    listed = str(joints).replace("'", '"')
    layout.write_text(
        f'name = "ui-prmd"\ndims = 3\ncentre = "root"\njoints = {listed}\n[bones]\n{bones}\n[parts]\ntrunk = {listed}\n'
    )
    data = next(case("ui_prmd").glob("*.gz")).read_bytes()
    source = as_folder({f"{label}/{n}.txt.gz": data for label in ("a", "b") for n in range(2)}, tmp_path / "x")
    assert "66 numbers a row (22 joints of 3 or 33 joints of 2?)" in refusal(source, tmp_path)
    report, store = converted(source, tmp_path, layout=str(layout))
    assert [finding.clips for finding in check(store).findings if finding.kind == "offsets"] == [4]
    assert any("In 4 recordings joints look like offsets" in note for note in report.notes)
