"""`skag baseline`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..plural import counted
from .app import app
from .options import DIALOGUES, Device, DeviceOption, JsonOption, QuietOption, SeedOption, StoreOption
from .output import Output


@app.command(epilog="Example: skag baseline nw-ucla.h5 --unseen nw-ucla-2 --text-encoder hf:FOLDER")
def baseline(
    data: Annotated[Path, typer.Argument(metavar="DATA.h5", help="Skeleton store made by `skag convert`.")],
    unseen: Annotated[
        str | None,
        typer.Option(
            "--unseen",
            metavar="NAMES|FILE|PROTOCOL|N",
            help="Classes to be named without a clip of them, as for `skag train`.  [default: none, all are learned]",
        ),
    ] = None,
    text_encoder: Annotated[
        str,
        typer.Option("--text-encoder", help="What embeds the texts: lexical, open_clip:MODEL, hf:MODEL or hf:FOLDER."),
    ] = "lexical",
    text_weights: Annotated[
        Path | None,
        typer.Option("--text-weights", help="Weights file or folder of the text encoder.  [default: hub's cache]"),
    ] = None,
    texts: Annotated[
        Path | None,
        typer.Option(
            "--texts",
            metavar="FILE",
            help="Class and sentences a line, tabs between, as `skag eval --classes` takes them.  "
            "[default: the bare names]",
        ),
    ] = None,
    names: Annotated[
        str | None,
        typer.Option(
            "--baselines",
            help="Which, with commas: ridge, ridge-centred, devise, prototype, conse; without --unseen also "
            "discriminant.  [default: all]",
        ),
    ] = None,
    protocol: Annotated[
        str | None, typer.Option("--protocol", help="Which train/test split, where the store has several.")
    ] = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="How many seeds, from --seed on.")] = 3,
    store: StoreOption = DIALOGUES,
    seed: SeedOption = 0,
    device: DeviceOption = Device.auto,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """What measured motion and texts come to without a network.

    A reviewer asks for these first: ridge regression from joint motion to the vectors of the classes' names, its
    likes, and each with the texts shuffled among the classes as a control. They learn from the training split's clips
    of seen classes and are tested on the test split's clips of the unseen ones. Reads a skeleton store. Writes
    vectors of texts, once, beside the dialogue store.
    """
    from .. import text
    from ..device import choose_device
    from ..inference import baselines
    from ..inference.candidates import read_candidates
    from ..skeleton.class_choice import matching
    from ..skeleton.store import SkeletonStore
    from ..skeleton.unseen import unseen_classes

    output = Output(as_json, quiet)
    chosen = baselines.choose(_listed(names), closed=unseen is None)
    where = choose_device(device.value).type

    def embed(sentences: list[str]) -> object:
        cache = store.with_name("text.h5")
        return text.embed(sentences, text_encoder, weights=text_weights, cache=cache, device=where)

    with SkeletonStore(data) as clips:
        new = [] if unseen is None else list(unseen_classes(unseen, clips, seed))
        given = {} if texts is None else {each.name: each.descriptions for each in read_candidates(texts)}
        matching(list(given), clips.classes, data)
        vectors = baselines.class_vectors(clips.classes, given, embed)
        found = baselines.compare(
            clips, vectors, chosen, unseen=new, protocol=protocol, seeds=range(seed, seed + seeds)
        )
        fingerprint = clips.fingerprint
    if text_encoder == text.LEXICAL:
        output.note("Note: lexical compares wording and knows no meanings: hf:MODEL or open_clip:MODEL does.")
    rule = (
        f"train = {counted(len(found.seen), 'seen class')} of {found.train_split}, {counted(found.learns, 'clip')}; "
        f"test = {counted(len(found.candidates), 'unseen class')} of {found.test_split}, "
        f"{counted(found.tested, 'clip')}"
    )
    if not new:
        rule = (
            f"train = {found.train_split}, {counted(found.learns, 'clip')}; test = {found.test_split}, "
            f"{counted(found.tested, 'clip')}; all classes are seen"
        )
    rows = [
        [
            each.baseline,
            each.top1,
            f"{each.top1_low:.1f} to {each.top1_high:.1f}",
            "" if each.spread is None else f"{each.spread:.2f}",
            each.mean_class,
            "" if each.shuffled is None else f"{each.shuffled:.1f}",
            each.meaning,
        ]
        for each in found.results
    ]
    output.table(
        f"{rule}; chance {100 / len(found.candidates):.1f} %",
        ["baseline", "top-1 %", "95 % interval", "spread", "mean class %", "texts shuffled %", "what"],
        rows,
        spare=("what", "mean class %"),
    )
    output.document(
        {
            "data": data.name,
            "fingerprint": fingerprint,
            "rule": rule,
            "text_encoder": text_encoder,
            "texts": None if texts is None else texts.name,
            "seeds": list(range(seed, seed + seeds)),
            "seen_classes": list(found.seen),
            "unseen_classes": new,
            "clips": {"train": found.learns, "test": found.tested},
            "chance": 100 / len(found.candidates),
            "baselines": [each.to_dict() for each in found.results],
        }
    )


def _listed(names: str | None) -> list[str]:
    return [name.strip() for name in (names or "").split(",") if name.strip()]
