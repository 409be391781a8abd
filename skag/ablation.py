"""What are the parts of a method worth? A recipe with parts taken out, over several seeds and protocols.

A cell is one row, protocol and seed: a run folder made by `skag.training.loop.train`, whose epoch the held-out clips
choose, and with which `skag.inference.evaluate` looks at the test split once, at the end. A cell that is finished holds
`cell.json` and is never made again; one that was interrupted is gone on with.
"""

from __future__ import annotations

import dataclasses
import math
import multiprocessing
import os
import re
import signal
import statistics
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import torch

from . import recipes, runs
from .backends import open_backend
from .backends.names import LanguageModel
from .config import Config, flat, override, replace
from .dialogue.describe import describe
from .dialogue.prompts import load_prompts
from .dialogue.script import Script
from .dialogue.store import DialogueStore, check_apart
from .errors import DialogueError, RunError
from .inference import discriminant
from .inference.evaluate import evaluate_runs
from .inference.scores import load_predictions
from .methods import method
from .methods.base import KnowledgeSource, Note, Row
from .metrics import accuracy
from .skeleton.class_choice import as_trained, occurring
from .skeleton.store import SkeletonStore
from .training.allocator import keep_freed_memory
from .training.start import Wanted, configure, train_run

BASELINE, RESULT = "baseline", "cell.json"
WITH_KINEMATICS = "+k"  # behind the name of a row


@dataclass(frozen=True)
class Cell:
    """One training run of the table."""

    row: Row
    protocol: str | None
    seed: int
    config: Config
    folder: Path


@dataclass(frozen=True)
class CellResult:
    """What a cell came to: on the test split, and on the held-out clips that chose its epoch; percent."""

    row: str
    protocol: str | None
    seed: int
    top1: float
    top5: float
    mean_class: float
    log_loss: float  # mean of -ln(probability of the true class) on the test split
    clips: int
    val_top1: float
    best_epoch: int
    refreshes: int
    asked: int
    minutes: float  # of training, the questions included


@dataclass(frozen=True)
class RowResult:
    """A row over its cells. Means are over seeds, a seed's value being the mean over its protocols; seeds that lack a
    protocol are left out. The difference is to another row, paired by seed and protocol."""

    row: str
    seeds: int
    mean: float | None  # top-1 on the test split
    spread: float | None  # sample standard deviation over seeds; None of fewer than two
    log_loss: float | None
    difference: float | None  # of top-1, mean over pairs of cells
    standard_error: float | None  # of the difference; None of fewer than two pairs
    pairs: int


def parse_row(text: str, rows: Mapping[str, Row]) -> Row:
    """A row of one's own, `NAME:FIELD=VALUE[,FIELD=VALUE]`, which changes `all`; `rows` are the method's. Raises
    `RunError`."""
    name, colon, changes = text.partition(":")
    if not colon or not name.replace("-", "").isalnum() or not changes:
        raise RunError(f"--row {text}: write NAME:FIELD=VALUE, such as warm:agents.temperature=0.3.")
    if name in rows:
        raise RunError(f"--row {text}: {name} is a row already; give it another name.")
    return Row(name, f"as all, with {changes}", tuple(changes.split(",")))


def choose_rows(rows: Mapping[str, Row], names: Sequence[str], own: Sequence[str]) -> list[Row]:
    """Of a method's `rows` those named (all where none is), then one's own. Raises `RunError`."""
    if unknown := [name for name in names if name not in rows]:
        raise RunError(f"no row {unknown[0]!r}: known are {', '.join(rows)}.")
    chosen = [rows[name] for name in dict.fromkeys(names)] if names else list(rows.values())
    chosen += [parse_row(text, rows) for text in own]
    if twice := [row.name for row in chosen if [other.name for other in chosen].count(row.name) > 1]:
        raise RunError(f"two rows are called {twice[0]!r}: give each a name of its own.")
    return chosen


def choose_protocols(store: SkeletonStore, names: Sequence[str]) -> list[str | None]:
    """Protocols by name, `all` of a store, or its only one. Raises `DataError`."""
    if list(names) == ["all"] and len(store.protocols()) > 1:
        return list(store.protocols())
    if not names or list(names) == ["all"]:
        store.protocol()
        return [None]
    for name in names:
        store.protocol(name)
    return list(dict.fromkeys(names))


def plan(
    store: SkeletonStore,
    rows: Sequence[Row],
    protocols: Sequence[str | None],
    seeds: Sequence[int],
    out: Path,
    *,
    recipe: str | None = None,
    method_name: str | None = None,
    stream: str = "j",
    changes: Sequence[str] = (),
    device: str = "cpu",
) -> list[Cell]:
    """The cells of a table, those of one seed together, so that what is there early can be compared.

    Raises `RunError` where a recipe, a change or a finished cell does not fit.
    """
    cells = []
    repeatable = method(recipes.method_of(recipe, method_name)).REPEATABLE
    for seed in seeds:
        for protocol in protocols:
            wanted = Wanted(recipe, method_name, protocol, changes=(*repeatable, *changes))
            config, _ = configure(_with_clips(store, protocol), wanted, stream, device)
            config = replace(replace(config, "data", protocol=protocol), "train", seed=seed)
            for row in rows:
                changed = override(config, [change.format(epochs=config.train.epochs) for change in row.changes])
                name = "-".join(part for part in (row.name, protocol, f"seed{seed}") if part)
                cells.append(Cell(row, protocol, seed, changed, out / name))
    return cells


def _with_clips(store: SkeletonStore, protocol: str | None, note: Note = lambda text: None) -> SkeletonStore:
    """The store with the classes that have a training clip in the protocol."""
    return occurring(store, store.protocol(protocol)[0], note)


def part_of(cells: Sequence[Cell], part: str) -> list[Cell]:
    """The cells of part `I/N`, every N-th from the I-th on, so that N parts make each of them exactly once. Raises
    `RunError` for what is no part of them."""
    found = re.fullmatch(r"(\d+)/(\d+)", part.strip())
    number, count = (int(each) for each in found.groups()) if found else (0, 0)
    if not 1 <= number <= count:
        raise RunError(f"--part {part}: write I/N, from 1/N to N/N, such as 2/8.")
    if count > len(cells):
        raise RunError(f"--part {part}: there are {len(cells)} runs, so divide them into at most as many parts.")
    return list(cells[number - 1 :: count])


def check_cell(cell: Cell, store: SkeletonStore, llm: str) -> None:
    """Raise `RunError` where the cell's folder holds a run of other settings, data or answers."""
    if not (cell.folder / runs.CONFIG).exists():
        return
    runs.check_fingerprint(cell.folder, store)
    there, wanted = flat(runs.read_config(cell.folder)), flat(cell.config)
    for name in wanted:
        if there[name] != wanted[name]:
            raise RunError(
                f"{cell.folder} was made with {name} {there[name]}, not {wanted[name]}: choose another folder with "
                "--out, or the settings it was made with."
            )
    _, asking = runs.read_source(cell.folder)
    if method(cell.config.method).uses_knowledge(cell.config) and asking.get("llm") != llm:
        raise RunError(
            f"{cell.folder} was answered by {asking.get('llm')}, not {llm}: choose another folder with --out."
        )


def describe_classes(
    store: SkeletonStore,
    script: Script,
    protocols: Sequence[str | None],
    source: KnowledgeSource,
    note: Callable[[str], None],
) -> None:
    """The rounds of a method's `script` of every class, for every protocol (`measured` answers each from its own
    training clips).

    What was answered before is not asked again. Raises `DialogueError` where a class stays without answers.
    """
    llm = source.llm or "measured"
    if source.offline or LanguageModel.parse(llm).is_imported:
        return
    check_apart(source.dialogues, store.path)
    with DialogueStore(source.dialogues) as kept:
        for protocol in protocols:
            part = _with_clips(store, protocol, note)
            backend = open_backend(llm, store=part, protocol=protocol, base_url=source.base_url, tell=note)
            report = describe(backend, kept, part.classes, part.layout, load_prompts(script))
            if report.failed:
                name, reason = report.failed[0]
                raise DialogueError(
                    f"{len(report.failed)} of {report.classes} classes have no complete dialogue ({name}: "
                    f"{reason.rstrip('.')}); what was answered is kept: run the same command again."
                )


class _Nobody:
    """Nobody watches a cell: its metrics file is looked at instead."""

    def epoch_started(self, epoch: int, epochs: int, steps: int) -> None: ...
    def step_done(self, means: Callable[[], dict[str, float]]) -> None: ...
    def epoch_done(self, metrics: dict[str, Any]) -> None: ...
    def asking(self, epoch: int, classes: int) -> None: ...
    def refreshed(self, record: dict[str, Any]) -> None: ...

    def noted(self, text: str) -> None: ...


def make_cell(data: Path, cell: Cell, source: KnowledgeSource, device: str) -> CellResult:
    """Train and evaluate one cell, or resume it, in this process."""
    where = torch.device(device)
    source = dataclasses.replace(source, asks_again=cell.row.asks_again, shuffled=cell.row.shuffled)
    with SkeletonStore(data) as whole:
        resume = (cell.folder / runs.CONFIG).exists()
        store = as_trained(whole, runs.classes_of(cell.folder)) if resume else _with_clips(whole, cell.protocol)
        report, missing = train_run(
            store, cell.config, cell.folder, source, where, _Nobody(), lambda text: None, resume=resume
        )
        if missing:
            raise DialogueError(
                f"{source.dialogues} lacks {len(missing)} answers for {cell.folder}: leave out --offline."
            )
    found = evaluate_runs([cell.folder], store=data, device=where)
    predictions = load_predictions(cell.folder, found.split)
    assert predictions is not None
    lines = [line for name in (runs.METRICS, "refreshes.jsonl") for line in runs.read_lines(cell.folder / name)]
    result = CellResult(
        row=cell.row.name,
        protocol=cell.protocol,
        seed=cell.seed,
        **dataclasses.asdict(found.accuracies[0]),
        log_loss=log_loss(predictions.labels, predictions.probabilities),
        clips=found.num_clips,
        val_top1=report.val_top1,
        best_epoch=report.best_epoch,
        refreshes=report.of_method.get("refreshes", 0),
        asked=report.of_method.get("asked", 0),
        minutes=round(sum(line["seconds"] for line in lines) / 60, 2),
    )
    runs.write_json(cell.folder / RESULT, dataclasses.asdict(result))
    return result


def with_kinematics(cell: Cell, result: CellResult, store: SkeletonStore) -> CellResult:
    """A finished cell with the `discriminant` of its training clips asked beside the network, as a row of its own."""
    _, split = store.protocol(cell.protocol)
    predictions = load_predictions(cell.folder, split)
    if predictions is None:
        raise RunError(
            f"{cell.folder} lacks its predictions of {split}: remove {RESULT} there, and the cell is evaluated again."
        )
    store = as_trained(store, predictions.classes)
    opinion = discriminant.of_run(cell.folder, store).probabilities(store, store.splits[split], store.layout)
    together = discriminant.multiply(predictions.probabilities, opinion)
    found = dataclasses.asdict(accuracy(predictions.labels, together))
    found["log_loss"] = log_loss(predictions.labels, together)
    return dataclasses.replace(result, row=result.row + WITH_KINEMATICS, **found)


def log_loss(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean of -ln(probability of the true class)."""
    true = probabilities[np.arange(len(labels)), labels]
    return float(-np.log(np.maximum(true, 1e-12)).mean())


def finished(cell: Cell) -> CellResult | None:
    """What a cell came to, where it is finished. Raises `RunError` where its file is damaged."""
    if not (cell.folder / RESULT).exists():
        return None
    try:
        return CellResult(**runs.read_json(cell.folder, RESULT))
    except TypeError:
        raise RunError(f"{cell.folder / RESULT} is damaged: remove it, and the cell is evaluated again.") from None


def run_cells(
    data: Path,
    cells: Sequence[Cell],
    source: KnowledgeSource,
    *,
    jobs: int = 1,
    device: str = "cpu",
    progress: Callable[[int, int], None] = lambda done, total: None,
    tell: Callable[[CellResult], None] = lambda result: None,
) -> list[CellResult]:
    """Make the cells that are not finished, `jobs` at a time, each in a process of one thread; results of all.

    A cell comes to the same whatever `jobs` is. `progress(done, total)` counts epochs, `tell` is given every new
    result. The first error stops the rest, and what was finished is kept.
    """
    results = {cell.folder: result for cell in cells if (result := finished(cell)) is not None}
    waiting = [cell for cell in cells if cell.folder not in results]
    total = sum(_planned(cell.config) for cell in cells)
    if waiting:
        spawn = multiprocessing.get_context("spawn")  # open HDF5 files and threads do not survive a fork
        with ProcessPoolExecutor(min(jobs, len(waiting)), mp_context=spawn, initializer=_begin_process) as pool:
            left = {pool.submit(make_cell, data, cell, source, device) for cell in waiting}
            try:
                while left:
                    done, left = wait(left, timeout=1, return_when=FIRST_COMPLETED)
                    for future in done:
                        tell(future.result())
                    progress(sum(_epochs_done(cell) for cell in cells), total)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                for process in multiprocessing.active_children():
                    process.terminate()
                raise
    return [result for cell in cells if (result := finished(cell)) is not None]


def _planned(config: Config) -> int:
    """Epochs of all stages of a run."""
    return sum(config.settings_of(stage).epochs for stage in method(config.method).stages(config))


def _begin_process() -> None:
    """One thread, and an end without a traceback when the user interrupts, or with the process that started it: a cell
    that goes on alone would be in the way of whoever begins the table again."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    threading.Thread(target=_end_with, args=[multiprocessing.parent_process()], daemon=True).start()
    torch.set_num_threads(1)
    keep_freed_memory()


def _end_with(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)  # checkpoints and cells are renamed into place, so that nothing is left half written


def _epochs_done(cell: Cell) -> int:
    path = cell.folder / runs.METRICS
    return path.read_bytes().count(b"\n") if path.exists() else 0


# ---- the table


def summarise(results: Sequence[CellResult], rows: Sequence[str], against: str = BASELINE) -> list[RowResult]:
    """One `RowResult` per row over the cells that are finished, each compared with the row `against`."""
    protocols = {result.protocol for result in results}
    found = {(result.row, result.seed, result.protocol): result for result in results}
    table = []
    for row in rows:
        own = {key[1:]: result for key, result in found.items() if key[0] == row}
        seeds = [seed for seed in sorted({seed for seed, _ in own}) if all((seed, each) in own for each in protocols)]
        values = [statistics.fmean(own[seed, each].top1 for each in protocols) for seed in seeds]
        losses = [own[seed, each].log_loss for seed in seeds for each in protocols]
        pairs = [
            result.top1 - found[against, *key].top1
            for key, result in own.items()
            if row != against and (against, *key) in found
        ]
        table.append(
            RowResult(
                row=row,
                seeds=len(seeds),
                mean=statistics.fmean(values) if values else None,
                spread=statistics.stdev(values) if len(values) > 1 else None,
                log_loss=statistics.fmean(losses) if losses else None,
                difference=statistics.fmean(pairs) if pairs else None,
                standard_error=statistics.stdev(pairs) / math.sqrt(len(pairs)) if len(pairs) > 1 else None,
                pairs=len(pairs),
            )
        )
    return table


def in_words(row: RowResult, meaning: str) -> list[str]:
    """The cells of a row as a table for people has them; see `columns`."""

    def number(value: float | None, form: str = "{:.2f}") -> str:
        return "" if value is None else form.format(value)

    return [
        row.row,
        number(row.mean),
        number(row.spread),
        str(row.seeds),
        number(row.log_loss, "{:.3f}"),
        number(row.difference, "{:+.2f}"),
        number(row.standard_error),
        str(row.pairs or ""),
        meaning,
    ]


def columns(against: str) -> list[str]:
    return ["row", "top-1 %", "spread", "seeds", "log loss", f"minus {against}", "std. error", "pairs", "what"]


def markdown(
    title: str, facts: Sequence[str], table: Sequence[RowResult], meanings: Mapping[str, str], against: str
) -> str:
    """The table as a section of a document, under the `facts` about it."""
    rows = [columns(against), ["---"] * len(columns(against))]
    rows += [in_words(row, meanings[row.row]) for row in table]
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join([f"## {title}", "", *facts, "", *lines]) + "\n"


def write_section(path: Path, title: str, section: str) -> None:
    """Put a section of level two into a markdown file: in the place of the one of that title, else at its end.

    Text between the section's table and the next heading is kept.
    """
    text = path.read_text(encoding="utf-8") if path.exists() else "# Ablation\n"
    lines = text.splitlines()
    if f"## {title}" not in lines:
        runs.write_lines(path, [text.rstrip("\n") + "\n\n" + section])
        return
    start = lines.index(f"## {title}")
    end = next((i for i in range(start + 1, len(lines)) if lines[i].startswith("## ")), len(lines))
    table_end = max((i + 1 for i in range(start, end) if lines[i].startswith("|")), default=start + 1)
    kept = [*lines[:start], *section.splitlines(), *lines[table_end:]]
    runs.write_lines(path, ["\n".join(kept) + "\n"])
