"""Published choices of unseen classes by name, and where each was read.

A name is the data set, the number of unseen classes, and where there are several draws whose they are and which:
`ntu60-5`, `ntu60-5-smie-a`, `nw-ucla-2`, `kinder-gator-10a`. Numbers count from 0 in the published list of classes.
"""

from __future__ import annotations

from dataclasses import dataclass

_SYNSE = "SynSE, split list of skelemoa/synse-zsl (also in SMIE and PURLS)"
_PURLS = "PURLS (CVPR 2024), supplements/label_splits of azzh1/PURLS; read in utils/utils.py of cseeyangchen/Flora"
_SMIE = "SMIE (ACM MM 2023), split.py of YujieOuO/SMIE"
_SADVAE = "SA-DVAE (ECCV 2024), random splits; read in utils/utils.py of cseeyangchen/Flora"
_STAR = "STAR and Neuron, third random split; read in utils/utils.py of cseeyangchen/Flora"
_NEURON = "Neuron (CVPR 2025), feeders/feeder_pku.py of cseeyangchen/Neuron"
_GATOR = "three draws of ten of 48 classes, left and right of one action merged"


@dataclass(frozen=True)
class UnseenProtocol:
    """Which classes of a published list nothing is learned from."""

    classes: str  # the published list: "ntu60", "ntu120", "pku-mmd", "nw-ucla", "kinder-gator"
    unseen: tuple[int | str, ...]  # numbers in that list, or names
    source: str


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split()))


_NTU = {
    "ntu60-5": (_SYNSE, "10 11 19 26 56"),
    "ntu60-12": (_SYNSE, "3 5 9 12 15 40 42 47 51 56 58 59"),
    "ntu60-20": (_PURLS, "0 12 13 14 15 16 17 22 23 26 29 30 31 35 36 42 43 48 56 57"),
    "ntu60-30": (
        _PURLS,
        "0 1 2 6 7 8 10 12 13 15 16 18 20 21 25 26 27 31 32 33 39 42 45 47 48 51 52 55 58 59",
    ),
    "ntu120-10": (_SYNSE, "4 13 37 43 49 65 88 95 99 106"),
    "ntu120-24": (_SYNSE, "5 9 11 16 18 20 22 29 35 39 45 49 59 68 70 81 84 87 93 94 104 113 114 119"),
    "ntu120-40": (
        _PURLS,
        "11 12 18 22 23 26 28 34 37 38 42 44 46 47 48 57 59 64 66 70 73 74 75 83 86 90 92 93 95 96 102 104 107 108 110 "
        "112 115 116 118 119",
    ),
    "ntu120-60": (
        _PURLS,
        "0 1 4 6 7 8 9 17 18 21 23 25 26 28 30 32 33 34 37 38 39 40 41 42 44 45 50 51 52 53 56 61 62 65 67 68 69 70 74 "
        "77 78 81 83 87 89 90 91 92 94 95 96 97 100 101 109 111 114 115 116 118",
    ),
    "ntu60-5-smie-a": (_SMIE, "4 19 31 47 51"),
    "ntu60-5-smie-b": (_SMIE, "12 29 32 44 59"),
    "ntu60-5-smie-c": (_SMIE, "7 20 28 39 58"),
    "ntu120-10-smie-a": (_SMIE, "3 18 26 38 41 60 87 99 102 110"),
    "ntu120-10-smie-b": (_SMIE, "5 12 14 15 17 42 67 82 100 119"),
    "ntu120-10-smie-c": (_SMIE, "6 20 27 33 42 55 71 97 104 118"),
    "ntu60-5-sadvae-a": (_SADVAE, "0 8 15 28 46"),
    "ntu60-5-sadvae-b": (_SADVAE, "15 19 23 47 50"),
    "ntu60-5-sadvae-c": (_SADVAE, "29 37 38 45 55"),
    "ntu120-10-sadvae-a": (_SADVAE, "0 4 6 7 24 37 54 59 97 113"),
    "ntu120-10-sadvae-b": (_SADVAE, "63 79 86 92 98 100 103 110 111 117"),
    "ntu120-10-sadvae-c": (_SADVAE, "9 14 17 44 60 75 81 89 108 110"),
}
_PKU = {
    "pku51-5": (_NEURON, "1 9 20 34 50"),
    "pku51-12": (_NEURON, "3 7 11 15 19 21 25 31 33 36 43 48"),
    "pku51-5-smie-a": (_SMIE, "1 9 20 34 50"),
    "pku51-5-smie-b": (_SMIE, "3 14 29 31 49"),
    "pku51-5-smie-c": (_SMIE, "2 15 39 41 43"),
    "pku51-5-star-c": (_STAR, "4 12 16 22 36"),
    "pku51-5-sadvae-a": (_SADVAE, "10 19 27 38 48"),
    "pku51-5-sadvae-b": (_SADVAE, "0 9 17 30 42"),
    "pku51-5-sadvae-c": (_SADVAE, "18 24 31 43 45"),
}
_NAMED: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "nw-ucla-2": (
        "nw-ucla",
        "PURLS (CVPR 2024), supplement, Table 8",
        ("pick up with two hands", "sit down"),
    ),
    "nw-ucla-5": (
        "nw-ucla",
        "PURLS (CVPR 2024), supplement, Table 8",
        ("pick up with two hands", "walk around", "sit down", "donning", "throw"),
    ),
    "kinder-gator-10a": (
        "kinder-gator",
        _GATOR,
        (
            "Do two jumping jacks", "Draw a triangle", "Draw the letter A", "Fly like a bird",
            "Jump as high as you can", "Make the letter P", "Point at the camera",
            "Push an imaginary button in front of you", "Put your hands on your hips and lean to the side",
            "Run in place as fast as you can",
        ),
    ),
    "kinder-gator-10b": (
        "kinder-gator",
        _GATOR,
        (
            "Do a forward lunge", "Draw a circle", "Draw the letter K", "Fly like a bird", "Jump as high as you can",
            "Lift your leg to one side", "Make the letter M", "Signal someone to stop", "Throw a ball",
            "Walk in place as fast as you can",
        ),
    ),
    "kinder-gator-10c": (
        "kinder-gator",
        _GATOR,
        (
            "Do two jumping jacks", "Draw the letter A", "Jump", "Make the letter M",
            "Push an imaginary button in front of you", "Raise your hand", "Signal someone to come here",
            "Signal someone to stop", "Swipe across an imaginary screen in front of you from left to right",
            "Walk in place as fast as you can",
        ),
    ),
}  # fmt: skip

PROTOCOLS: dict[str, UnseenProtocol] = {
    **{name: UnseenProtocol(name.partition("-")[0], _numbers(text), source) for name, (source, text) in _NTU.items()},
    **{name: UnseenProtocol("pku-mmd", _numbers(text), source) for name, (source, text) in _PKU.items()},
    **{name: UnseenProtocol(classes, unseen, source) for name, (classes, source, unseen) in _NAMED.items()},
}

# Published protocols that cannot be had as lists: what to do instead.
REFUSED = {
    "llm-ar": "LLM-AR (CVPR 2024) draws three of NTU-120's classes five times and does not say which: "
    "--unseen 3 with --seed 0 to 4 draws as it does",
    "sugar-ntu120": "SUGAR (AAAI 2026) trains on NTU-60 and tests ten of A61 to A120 and does not say which: train on "
    "NTU-60, and give ten names of your own to `skag eval RUN --data NTU120.h5 --classes FILE`",
    "sugar-pku": "SUGAR (AAAI 2026) trains on NTU-60 and tests all of PKU-MMD, which leaves no class of NTU-60 out: "
    "train on NTU-60, and `skag eval RUN --data PKU.h5 --classes all`",
}
