"""Toyota Smarthome, trimmed (Das et al., ICCV 2019): JSON files of LCR-Net, `Activity_pPP_rRR_vVV_cCC[_pose3d].json`.

A file is `{"njts": 13, "frames": [[{"pose3d": [39], "pose2d": [26]}, ...], ...]}`: per frame a list of people, and
`pose3d` all x, then all y, then all z of the 13 joints. p is the subject, c the camera.

As in the published code for these skeletons (smarthome_gendata.py of YangDi666/2s-AGCN-For-Daily-Living), the n-th
person of a frame is body n, and of the first two the one whose joints vary more is taken. Frames without anybody
stay where they are. The joints stay the recorded 13; that code adds two midpoints.

Splits of the same code: `xsub` by subject; `xview1` trains on camera 1, `xview2` on cameras 1, 3, 4, 6 and 7, both
test on camera 2 and validate on camera 5, and both know 19 of the 31 activities only. (That code takes subjects for
cameras in `xview2`; here it is the cameras.)
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath

import numpy as np

from ..skeleton.layouts import load_layout
from ..skeleton.store import Clip
from .archives import Files, Member
from .bodies import busiest, by_place
from .source import Options, Source, Unusable, content, each_file, first
from .text import joint_table, json_items

ACTIVITIES = {  # in the published order: as in the file names, and in words
    "Cook.Cleandishes": "clean dishes", "Cook.Cleanup": "clean up", "Cook.Cut": "cut (cooking)",
    "Cook.Stir": "stir (cooking)", "Cook.Usestove": "use stove", "Cutbread": "cut bread",
    "Drink.Frombottle": "drink from bottle", "Drink.Fromcan": "drink from can", "Drink.Fromcup": "drink from cup",
    "Drink.Fromglass": "drink from glass", "Eat.Attable": "eat at table", "Eat.Snack": "eat snack", "Enter": "enter",
    "Getup": "get up", "Laydown": "lay down", "Leave": "leave", "Makecoffee.Pourgrains": "pour grains (coffee)",
    "Makecoffee.Pourwater": "pour water (coffee)", "Maketea.Boilwater": "boil water (tea)",
    "Maketea.Insertteabag": "insert tea bag", "Pour.Frombottle": "pour from bottle", "Pour.Fromcan": "pour from can",
    "Pour.Fromkettle": "pour from kettle", "Readbook": "read book", "Sitdown": "sit down", "Takepills": "take pills",
    "Uselaptop": "use laptop", "Usetelephone": "use telephone", "Usetablet": "use tablet", "Walk": "walk",
    "WatchTV": "watch TV",
}  # fmt: skip
VIEW_ACTIVITIES = {
    "Cutbread", "Drink.Frombottle", "Drink.Fromcan", "Drink.Fromcup", "Drink.Fromglass", "Eat.Attable", "Eat.Snack",
    "Enter", "Getup", "Leave", "Pour.Frombottle", "Pour.Fromcan", "Readbook", "Sitdown", "Takepills", "Uselaptop",
    "Usetablet", "Usetelephone", "Walk",
}  # fmt: skip
TRAINING_SUBJECTS = {3, 4, 6, 7, 9, 12, 13, 15, 17, 19, 25}
TRAINING_CAMERAS = {"xview1": {1}, "xview2": {1, 3, 4, 6, 7}}
TEST_CAMERA, VALIDATION_CAMERA = 2, 5
MAX_BYTES = 64 << 20  # of one file
_NAME = re.compile(r"([A-Za-z.]+)_p(\d\d)_r\d\d_v?\d\d_c(\d\d)(?:_[\w+.-]*)?")


def recognises(files: Files) -> bool:
    """Whether there is a JSON file of such a name with "pose3d" in it."""
    member = first(files, lambda name: _is_json(name) and _NAME.fullmatch(PurePosixPath(name).stem) is not None)
    return member is not None and (b'"pose3d"' in (member.data or b"") or b'"njts"' in (member.data or b""))


def read(files: Files, options: Options) -> Source:
    """Recordings in the order of their names, with subject, camera and the published splits."""
    layout = options.layout or load_layout("smarthome-13")
    clips = each_file(files, _is_json, _clip, options.workers)
    return Source(layout, options.classes or list(ACTIVITIES.values()), clips, sum(map(_is_json, files.names)))


def _is_json(name: str) -> bool:
    return name.lower().endswith(".json")


def _clip(member: Member) -> Clip:
    name = PurePosixPath(member.name).stem
    match = _NAME.fullmatch(name)
    if not match or match[1] not in ACTIVITIES:
        raise Unusable("is not named Activity_pPP_rRR_vVV_cCC.json with one of the 31 activities")
    activity, subject, camera = match[1], int(match[2]), int(match[3])
    there = False

    def frames() -> Iterator[list[np.ndarray]]:
        nonlocal there
        for key, value in json_items(content(member, MAX_BYTES), long=("frames",)):
            if key == "frames":
                there = True
                yield _people(value)

    bodies, count = by_place(frames(), (13, 3), 2)
    if not bodies:
        raise Unusable("has nobody in any frame" if there else 'has no "frames"')
    return Clip(
        name,
        list(ACTIVITIES).index(activity),
        busiest(bodies, count, 1),
        subject=subject,
        camera=camera,
        splits=_splits(activity, subject, camera),
    )


def _people(frame: object) -> list[np.ndarray]:
    """The first two people of a frame, `[13, 3]` each."""
    if not isinstance(frame, list):
        raise Unusable('has "frames" that are no lists of people')
    people = []
    for person in frame[:2]:
        values = person.get("pose3d") if isinstance(person, dict) else None
        joints = joint_table(values, '"pose3d"', 1)
        if len(joints) != 39:
            raise Unusable(f'has a "pose3d" of {len(joints)} numbers, not 39')
        people.append(joints.reshape(3, 13).T)
    return people


def _splits(activity: str, subject: int, camera: int) -> tuple[str, ...]:
    splits = ["xsub_train" if subject in TRAINING_SUBJECTS else "xsub_test"]
    if activity in VIEW_ACTIVITIES:
        for protocol, cameras in TRAINING_CAMERAS.items():
            if camera in cameras:
                splits.append(f"{protocol}_train")
            elif camera == TEST_CAMERA:
                splits.append(f"{protocol}_test")
            elif camera == VALIDATION_CAMERA:
                splits.append(f"{protocol}_val")
    return tuple(splits)
