"""How long the dialogue store takes: an exchange kept, a big store opened, one exchange looked up.

    python benchmarks/dialogue_store.py [--folder FOLDER]

The big store is that of 400 classes, six rounds and 29 refreshes: 69,600 exchanges, each round with all rounds
before it as history. A plain append with `fdatasync` of as many bytes, in the same folder, is the yardstick for
an exchange kept: what the disk itself takes.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from skag.dialogue.store import DialogueStore, Exchange, exchange_key

CLASSES, ROUNDS, REFRESHES = 400, 6, 29
WORDS = ("right", "left", "hand", "elbow", "moves", "up", "down", "forward", "slowly", "past", "head", "then", "turns")


def conversations(classes: int, refreshes: int) -> list[Exchange]:
    """Exchanges of whole conversations, with answers of random words."""
    chance, made = random.Random(0), []
    for refresh in range(refreshes):
        identity = {"backend": "benchmark", "model": "none", "options": {"seed": refresh}}
        for index in range(classes):
            history = [{"role": "system", "content": "You describe human actions. " * 10}]
            for number in range(1, ROUNDS + 1):
                question = f"Round {number} of class {index}: " + "a question of usual length " * 12
                history = [*history, {"role": "user", "content": question}]
                answer = " ".join(chance.choices(WORDS, k=30))
                made.append(
                    Exchange(
                        key=exchange_key(identity, history),
                        label_set="benchmark",
                        class_name=f"class {index}",
                        round=number,
                        identity=identity,
                        messages=tuple(history),
                        prompt_hash="0123456789abcdef",
                        answer=answer,
                        tokens_in=500,
                        tokens_out=40,
                        seconds=1.5,
                        created=f"2026-01-01T00:{refresh:02}:00.{len(made):06}+00:00",
                    )
                )
                history = [*history, {"role": "assistant", "content": answer}]
    return made


def timed(work: Callable[[], object]) -> float:
    """Milliseconds."""
    start = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - start)


def say(what: str, times: list[float]) -> None:
    mean, worst = statistics.fmean(times), max(times)
    print(f"{what:<58} median {statistics.median(times):8.2f} ms   mean {mean:8.2f} ms   longest {worst:9.2f} ms")


def plain_appends(path: Path, size: int, count: int) -> list[float]:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    sync = getattr(os, "fdatasync", os.fsync)
    times = [timed(lambda: (os.write(handle, b"x" * size), sync(handle))) for _ in range(count)]
    os.close(handle)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", help="where to work, on the disk to be measured")
    with tempfile.TemporaryDirectory(dir=parser.parse_args().folder) as name:
        folder = Path(name)
        few = conversations(100, 1)
        say("plain append of 3 kB with fdatasync", plain_appends(folder / "plain", 3000, 300))
        small = DialogueStore(folder / "small.h5")
        say(
            f"add, {len(few)} exchanges into an empty store, folds included",
            [timed(lambda e=e: small.add(e)) for e in few],
        )

        many = conversations(CLASSES, REFRESHES)
        with DialogueStore(folder / "big.h5") as big:
            print(f"{len(many)} exchanges written and folded in {timed(lambda: big.add_all(many)) / 1000:.1f} s")
        print(f"the file has {(folder / 'big.h5').stat().st_size / 1e6:.0f} MB")
        say("open", [timed(lambda: DialogueStore(folder / "big.h5")) for _ in range(20)])
        chosen = random.Random(1).sample(many, 1000)
        opened = DialogueStore(folder / "big.h5")
        assert all(opened.get(exchange.key) == exchange for exchange in chosen[:100])
        say("look up one, opened before", [timed(lambda e=e: opened.get(e.key)) for e in chosen])
        say(
            "open and look up one",
            [timed(lambda e=e: DialogueStore(folder / "big.h5").get(e.key)) for e in chosen[:20]],
        )
        names = {f"class {index}" for index in range(60)}
        say("find rounds 1 to 5 of 60 classes", [timed(lambda: opened.find(class_names=names, rounds=range(1, 6)))])
        new = conversations(100, REFRESHES + 1)[-600:]
        say("add, without a fold", [timed(lambda e=e: opened.add(e)) for e in new])
        say("fold 600 into it", [timed(opened.fold)])


if __name__ == "__main__":
    main()
