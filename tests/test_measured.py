"""The measured backend: `pytest tests/test_measured.py`."""

from __future__ import annotations

import json
import re
import tarfile
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from skag.backends import Topic, class_statistics
from skag.backends.measured import MeasuredBackend
from skag.convert import convert
from skag.errors import BackendError, DataError
from skag.methods.skeleton_agent.script import SCRIPT
from skag.skeleton.layouts import Layout, load_layout
from skag.skeleton.simulate import ACTIONS, simulate
from skag.skeleton.store import Clip, SkeletonStore, write_store
from tests.helpers.recordings import real

from .helpers.servers import about

DATA = Path(__file__).parents[2] / "shared" / "data"
NTU = load_layout("nturgb+d")


def make_store(path: Path, layout: Layout, clips: list[Clip], classes) -> SkeletonStore:
    with write_store(path, layout) as writer:
        for clip in clips:
            writer.add(clip)
        writer.finish(classes)
    return SkeletonStore(path)


def simulated(change=lambda keypoints: keypoints, layout: Layout = NTU) -> list[Clip]:
    """Training clips of eight simulated people, each `[1, T, V, C]` array passed through `change`."""
    recordings = simulate(seed=5, subjects=12, repetitions=2)
    train = set(recordings["split"]["xsub_train"])
    return [
        Clip(a["frame_dir"], a["label"], change(a["keypoint"].astype(np.float32)), splits=("train",))
        for a in recordings["annotations"]
        if a["frame_dir"] in train
    ]


def answers(backend: MeasuredBackend, classes, similar=lambda one: ()) -> dict[tuple[int, int], str]:
    return {
        (one, number): backend.ask([], about(one, name, number, similar(one))).text
        for one, name in enumerate(classes)
        for number in range(1, 7)
    }


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> SkeletonStore:
    return make_store(tmp_path_factory.mktemp("measured") / "demo.h5", NTU, simulated(), ACTIONS)


@pytest.fixture(scope="module")
def backend(store) -> MeasuredBackend:
    return MeasuredBackend(store, "train")


def ask(backend: MeasuredBackend, action: str, number: int, *similar: str) -> str:
    one = ACTIONS.index(action)
    return backend.ask([], about(one, action, number, tuple(ACTIONS.index(name) for name in similar))).text


def check_formats(texts: dict[tuple[int, int], str], layout: Layout) -> None:
    for (one, number), text in texts.items():
        where = (one, number, text)
        SCRIPT[number].format.check(text, layout)
        assert text and not re.search(r"[*#`_]", text), where
        if number in (1, 5, 6):
            assert "\n" not in text and re.fullmatch(r"[^.!?]+\.", text), where
        if number == 2:
            assert [line.split(":")[0] for line in text.splitlines()] == ["head", "hand", "arm", "hip", "leg", "foot"]
            assert all(re.fullmatch(r"\w+: [^.]+\.", line) for line in text.splitlines()), where
        if number == 3:
            joints = [int(part) for part in text.split(", ")]
            assert joints == sorted(set(joints)) and joints[0] >= 1 and joints[-1] <= layout.num_joints, where
            assert min(3, layout.num_joints) <= len(joints) <= 8, where
            lines = texts[one, 4].splitlines()
            assert [line.split(": ")[0] for line in lines] == [f"{j}-{layout.joints[j - 1]}" for j in joints], where
        if number == 5:
            assert not re.search(r"\d", text), where
        if number == 6:
            assert text.count(" ") < 60, where


def test_every_answer_has_the_format_of_its_round(backend):
    texts = answers(backend, ACTIONS)
    check_formats(texts, NTU)
    for number in (1, 5, 6):
        assert len({texts[one, number] for one in range(10)}) == 10


def test_classes_get_different_joints(backend):
    sets = [set(ask(backend, action, 3).split(", ")) for action in ACTIONS]
    assert min(len(a ^ b) for i, a in enumerate(sets) for b in sets[:i]) >= 2


@pytest.mark.parametrize(
    ("action", "similar", "says", "never"),
    [
        ("sit down", "stand up", "down and ends? lower|sinks down", "ends? higher|rises"),
        ("stand up", "sit down", "up and ends? higher|rises", "ends? lower|sinks"),
        (
            "put on a hat",
            "take off a hat",
            "higher in the second half|in front in the first half",
            "higher in the first",
        ),
        (
            "take off a hat",
            "put on a hat",
            "higher in the first half|in front in the second half",
            "higher in the second",
        ),
        ("pick up with both hands", "pick up with one hand", "hands come together|same height|act alike", "alone"),
        ("pick up with one hand", "pick up with both hands", "hands stay apart|higher than the other|alone", "alike"),
        ("drink", "touch the chest", "hand (gets up to head|is raised higher|comes close)", "no higher"),
        ("touch the chest", "drink", "no higher than|not raised as high|held lower", "close to the head"),
        ("kick", "step forward", "foot (moves far|is lifted higher)|knee reaches forward", "hardly"),
    ],
)
def test_distinctions_tell_look_alikes_apart(backend, action, similar, says, never):
    sentence = ask(backend, action, 6, similar)
    assert sentence.startswith(f"Unlike {similar}, ")
    assert re.search(says, sentence), sentence
    assert not re.search(never, sentence), sentence


def test_critical_joints_are_those_that_act(backend):
    def names(action):
        return {NTU.joints[int(number) - 1] for number in ask(backend, action, 3).split(", ")}

    assert all(re.search("foot|ankle|knee", name) for name in names("kick"))
    assert all(re.search("hand|wrist|thumb|elbow", name) for name in names("drink"))
    assert {"base of the spine", "middle of the spine", "left hip", "right hip"} & names("sit down")
    assert not any("hand" in name for name in names("sit down") | names("stand up"))


def test_the_first_similar_class_counts_most(backend):
    sentence = ask(backend, "drink", 6, "kick", "touch the chest")
    assert sentence.startswith("Unlike kick, ") and "unlike touch the chest" in sentence
    assert ask(backend, "drink", 6, "drink", "kick").startswith("Unlike kick, ")  # never unlike itself


def test_heading_size_and_place_do_not_change_the_answers(store, backend, tmp_path):
    cos, sin = np.cos(1.9), np.sin(1.9)
    turn = 1.3 * np.array([[cos, 0, -sin], [0, 1, 0], [sin, 0, cos]])

    def change(points):
        there = (points != 0).any(-1, keepdims=True)
        return np.where(there, points @ turn + [0.4, 0.2, 3.0], 0).astype(np.float32)

    turned = MeasuredBackend(make_store(tmp_path / "turned.h5", NTU, simulated(change), ACTIONS), "train")
    assert answers(turned, ACTIONS) == answers(backend, ACTIONS)


def test_left_handers_use_their_hand_too(tmp_path):
    flip = simulated(lambda points: (points * [-1, 1, 1])[:, :, NTU.mirror_index].astype(np.float32))
    mirrored = MeasuredBackend(make_store(tmp_path / "left.h5", NTU, flip, ACTIONS), "train")
    one = ACTIONS.index("drink")
    assert "left hand tip" in mirrored.ask([], about(one, "drink", 4)).text
    assert "the left hand goes up" in mirrored.ask([], about(one, "drink", 2)).text


def test_same_answers_again_and_from_many_threads(store, backend):
    expected = answers(backend, ACTIONS)
    again, got = MeasuredBackend(store, "train"), {}
    threads = [
        threading.Thread(target=lambda one=one: got.update({one: again.ask([], about(one, "", 3)).text}))
        for one in range(len(ACTIONS))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == {one: expected[one, 3] for one in range(len(ACTIONS))}


def test_identity_names_the_data_and_nothing_else(store, backend):
    identity = {"backend": "measured", "version": 1, "data": store.fingerprint, "split": "train"}
    assert backend.identity() == identity and json.dumps(identity)
    assert backend.spec == "measured"
    answer = backend.ask([{"role": "user", "content": "anything"}], about(0, "sit down", 1))
    assert answer.details == {"clips": 16} and answer.tokens_in is None


def test_what_cannot_be_measured_is_said_in_one_line(store, tmp_path):
    with pytest.raises(BackendError, match=r"no split 'xview'.*it has train") as error:
        MeasuredBackend(store, "xview")
    assert "\n" not in str(error.value)
    lone = make_store(tmp_path / "lone.h5", NTU, simulated()[:20], [*ACTIONS, "fly"])
    with pytest.raises(BackendError, match="class 'fly' has no usable clip in split 'train'"):
        MeasuredBackend(lone, "train").ask([], about(10, "fly", 1))
    empty = make_store(tmp_path / "empty.h5", NTU, simulated(np.zeros_like)[:20], ACTIONS)
    with pytest.raises(DataError, match="no joint other than 0 in any clip of split train: `skag check`") as error:
        MeasuredBackend(empty, "train").ask([], about(0, "sit down", 1))
    assert "\n" not in str(error.value)
    with pytest.raises(BackendError, match="measured cannot answer round 7, appearance"):
        MeasuredBackend(store, "train").ask([], Topic(0, "sit down", 7, "appearance"))


def test_large_classes_are_read_in_part(store, monkeypatch):
    monkeypatch.setattr(class_statistics, "CLIPS_PER_CLASS", 5)
    assert MeasuredBackend(store, "train").ask([], about(0, "sit down", 1)).details == {"clips": 5}


PLAIN = Layout(
    name="plain", dims=3, joints=("a", "b", "c", "d", "e"), bones={"b": "a", "c": "b", "d": "a", "e": "d"},
    centre="a", parts={"one": ("a", "b", "c"), "two": ("d", "e")}, up="z",
)  # fmt: skip
TINY = Layout(name="tiny", dims=2, joints=("left hand", "right hand"), bones={"left hand": "right hand"},
              centre="left hand", parts={"left arm": ("left hand",), "right arm": ("right hand",)})  # fmt: skip


_FIGURE = np.random.default_rng(1).uniform(100, 500, (17, 2))  # any stiff body in an image


@pytest.mark.parametrize(
    "layout", [load_layout("kinect-v1"), load_layout("coco"), PLAIN, TINY], ids=lambda lay: lay.name
)
def test_any_layout_and_damaged_clips_are_answered(layout, tmp_path):
    """Random walks with gaps, missing joints, absent bodies, single frames, NaN: formats hold, nothing warns."""
    rng = np.random.default_rng(0)
    shape = (layout.num_joints, layout.dims)
    clips = []
    for number in range(40):
        bodies, frames = rng.integers(1, 4), rng.choice([1, 2, 7, 40])
        points = rng.normal(size=shape) + 0.05 * rng.normal(size=(bodies, frames, *shape)).cumsum(1)
        points[rng.random((bodies, frames, layout.num_joints)) < 0.05] = 0
        if number % 5 == 0:
            points[-1] = 0
        if number % 7 == 0:
            points[:, :, 0] = np.nan
        if number % 11 == 0:
            points[0, 0, -1, 0] = np.inf
        clips.append(Clip(f"clip {number}", number % 4, points.astype(np.float32), splits=("train",)))
    clips.append(Clip("nothing", 4, np.zeros((1, 3, *shape), np.float32), splits=("train",)))
    names = ["wave", "名" * 40, "a very long name " * 12, "two\nlines. {} [red]", "empty"]
    backend = MeasuredBackend(make_store(tmp_path / "odd.h5", layout, clips, names), "train")
    check_formats(answers(backend, names[:4], lambda one: (0, 1, 2, 3, 4, 99)), layout)
    with pytest.raises(BackendError, match="no usable clip"):
        backend.ask([], about(4, "empty", 1))


def test_joints_of_low_confidence_do_not_count(tmp_path):
    """Wild ankles that the estimator itself does not believe in change no answer."""
    layout = load_layout("coco")
    feet, stores = layout.part_index["left leg"][2:], []
    for wild in (0.0, 300.0):
        clips = []
        for number in range(12):
            points = 50 * np.linspace(0, number % 2, 20)[:, None, None] * np.eye(17)[9][:, None] + _FIGURE
            noise = np.random.default_rng(number).normal(size=(20, len(feet), 2))
            points[:, feet] += wild * noise
            confidence = np.ones((1, 20, 17), np.float32)
            confidence[..., feet] = 0.1
            points = points[None].astype(np.float32)
            clips.append(Clip(f"{wild} {number}", number % 2, points, confidence, splits=("train",)))
        stores.append(make_store(tmp_path / f"{wild}.h5", layout, clips, ["still", "push"]))
    calm, shaken = (answers(MeasuredBackend(store, "train"), ["still", "push"]) for store in stores)
    assert calm == shaken
    assert "left wrist" in calm[1, 4]


def test_a_single_class_is_described_without_a_rival(tmp_path):
    clips = [clip for clip in simulated() if clip.label == 0]
    backend = MeasuredBackend(make_store(tmp_path / "one.h5", NTU, clips, ACTIONS[:1]), "train")
    check_formats(answers(backend, ACTIONS[:1]), NTU)


def test_two_people_who_meet(tmp_path):
    """Body 1 stands; body 0 walks to it or away from it."""
    clips = []
    for number, clip in enumerate(simulated()[:20]):
        person = clip.keypoints[:, :30]
        away = np.zeros((1, 30, 1, 3), np.float32)
        away[..., 0] = np.linspace(2.0, 0.5, 30)[None, :, None]
        actor = person + (away if number % 2 else away[:, ::-1])
        clips.append(Clip(clip.name, number % 2, np.concatenate([actor, 0 * actor + person[:, :1]]), splits=("train",)))
    backend = MeasuredBackend(make_store(tmp_path / "two.h5", NTU, clips, ["depart", "approach"]), "train")
    assert "approach each other" in backend.ask([], about(1, "approach", 6, (0,))).text
    assert "move apart" in backend.ask([], about(0, "depart", 6, (1,))).text


def test_real_recordings_of_sitting_down_and_standing_up(tmp_path):
    archive = DATA / "nw-ucla-raw.tar.gz"
    if not archive.exists():
        pytest.skip(f"the recordings of NW-UCLA are not at {archive}")
    classes = ["pick up with one hand", "pick up with two hands", "", "", "sit down", "stand up", "", "", "", ""]
    clips = []
    with tarfile.open(archive) as tar:
        for member in tar:
            if match := re.search(r"a(01|02|05|06)_s\d+_e\d+_v0([12])\.json$", member.name):
                recording = json.load(tar.extractfile(member))
                points = np.array(recording["skeletons"], np.float32)[None]
                clips.append(Clip(member.name, recording["label"] - 1, points, camera=int(match[2]), splits=("train",)))
    store = make_store(tmp_path / "ucla.h5", load_layout("kinect-v1"), clips, classes)
    backend = MeasuredBackend(store, "train")
    assert re.search("down and ends? lower", backend.ask([], about(4, "", 6, (5,))).text)
    assert re.search("up and ends? higher", backend.ask([], about(5, "", 6, (4,))).text)
    assert re.search("lower|far|down", backend.ask([], about(1, "", 6, (0,))).text)
    assert "goes down to knee height" in backend.ask([], about(0, "", 2)).text


def at_double_rate(keypoints: np.ndarray) -> np.ndarray:
    """The same motion with a frame between every two."""
    between = (keypoints[:, 1:] + keypoints[:, :-1]) / 2
    return np.stack([keypoints[:, :-1], between], 2).reshape(len(keypoints), -1, *keypoints.shape[2:])


def test_speeds_and_durations_are_per_second_where_rates_are_known(tmp_path):
    """Half of the clips of every class once at 30 and once at 60 frames a second: the same motion."""
    recorded = simulated()
    slow = [Clip(c.name, 0, c.keypoints[:, :-1], splits=c.splits, frame_rate=30.0) for c in recorded]
    fast = [Clip(f"{c.name}x", 1, at_double_rate(c.keypoints), splits=c.splits, frame_rate=60.0) for c in recorded]
    timed = class_statistics.measure(make_store(tmp_path / "t.h5", NTU, slow + fast, ["a", "b"]), "train")
    untimed = [replace(clip, frame_rate=None) for clip in slow + fast]
    by_frame = class_statistics.measure(make_store(tmp_path / "f.h5", NTU, untimed, ["a", "b"]), "train")
    hand = NTU.index["right hand"]
    one, other = (timed.of_joint(label, hand)["speed"] for label in (0, 1))
    assert one == pytest.approx(other, rel=0.02) and timed.per_second
    assert one == pytest.approx(30 * by_frame.of_joint(0, hand)["speed"], rel=1e-6)
    assert by_frame.of_joint(1, hand)["speed"] == pytest.approx(other / 60, rel=1e-6) and not by_frame.per_second
    assert timed.of_body(0)["duration"] == pytest.approx(timed.of_body(1)["duration"], abs=0.02)


def test_all_clips_at_30_frames_a_second_get_the_answers_they_get_without_a_rate(backend, tmp_path):
    timed = [replace(clip, frame_rate=30.0) for clip in simulated()]
    again = MeasuredBackend(make_store(tmp_path / "t.h5", NTU, timed, ACTIONS), "train")
    assert answers(again, ACTIONS) == answers(backend, ACTIONS)


def test_what_stays_still_is_not_said_to_move(tmp_path):
    """In one round as in another: UTKinect's wavers stand, and their knees were called lifted."""
    convert(real("utkinect-raw.tar.gz"), tmp_path / "ut.h5")
    teller = MeasuredBackend(SkeletonStore(tmp_path / "ut.h5"), "xsub_train").teller
    told = 0
    for one in teller.statistics.known.tolist():
        others = [None, *(other for other in teller.statistics.known.tolist() if other != one)]
        for fact in (fact for other in others for fact in teller.outstanding(one, other, 4)):
            joints = teller.statistics.anatomy.spoken.get(fact.matter, ())
            names = {which: teller.noun(one, fact.matter, which) for which in ("both", "busy", "idle") if len(joints)}
            sides = {names.get("both"): joints, names.get("busy"): joints[-1:], names.get("idle"): joints[:1]}
            still = any("almost still" in teller.movement(one, int(v)) for v in sides.get(fact.subject, ()))
            moves = re.search(
                r"lifted higher|moves far|moves quickly|up and comes|down and comes|ends (higher|farther)", fact.words
            )
            told += bool(moves)
            assert not (still and moves), f"{teller.classes[one]}: {fact}"
    assert told > 50
