"""What `skag analyze-confusion` shows of a SkeletonAgent run: its dialogue, its refreshes, what its network learned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ...dialogue.exchanges import spec_of
from ...inference.loaded import Run
from ...inference.scores import Predictions
from ...results import analysis
from ...results.poses import typical_poses
from ...skeleton.store import SkeletonStore
from ..base import Findings
from . import class_knowledge, network_figures, refreshes
from .class_knowledge import ClassKnowledge, History
from .config import SkeletonAgentConfig
from .network import Recogniser
from .page import page_parts

_SHOWN_EPOCHS = 4
_SHOWN_CLASSES = 10  # in colour among the embeddings
_STRONGEST_LINKS = 10


def history_of(run: Run) -> History:
    """What the run's network was trained with, from epoch to epoch. Raises `RunError`."""
    config: Any = run.config
    return class_knowledge.read(run.folder, run.trained, run.layout, config.agents.joints_from_distinctions)


def findings(
    run: Run,
    store: SkeletonStore,
    predictions: Predictions,
    pairs: Sequence[analysis.Pair],
    reference: Path | None,
) -> Findings:
    """Everything that the run's folder and network say; `pairs` are those it confuses. Raises `RunError`."""
    config = run.config
    model = run.model
    assert isinstance(config, SkeletonAgentConfig) and isinstance(model, Recogniser)
    history, dialogue = history_of(run), class_knowledge.read_dialogue(run.folder)
    records = refreshes.read_refreshes(run.folder, run.classes, dialogue, history)
    known = history.at(config.train.epochs if run.epoch is None else run.epoch)
    if known is not None and run.added is not None:
        known = [*known, *(ClassKnowledge(each, (), {}) for each in run.added.descriptions)]
    snapshots = refreshes.read_snapshots(run.folder, _SHOWN_EPOCHS) if config.agents.beta else []
    topology_BVV = learned_topology(model)
    matches = [
        {
            "epoch": each.epoch,
            "nearest_is_own": analysis.nearest_is_own(each.clip_embeddings, each.clip_labels, each.text_before),
        }
        for each in snapshots
    ]

    def draw(folder: Path, confused: Sequence[int], seed: int) -> dict[str, Path]:
        drawn, drawable = {"topology": folder / "topology.png"}, [k for k in confused if k < len(run.trained)]
        network_figures.topology_figure(topology_BVV, run.layout.joints, drawn["topology"])
        if snapshots:
            drawn["embeddings"] = folder / "embeddings.png"
            shown = sorted(drawable[:_SHOWN_CLASSES])
            network_figures.embedding_figure(snapshots, run.classes, shown, drawn["embeddings"], seed)
        if known is not None:
            drawn["critical-joints"] = folder / "critical-joints.png"
            shown = sorted(drawable[: network_figures.MOST_BODIES])
            split = predictions.split
            trained = next((train for train, test in store.protocols().values() if test == split), split)
            network_figures.critical_joints_figure(
                run.layout,
                [run.classes[k] for k in shown],
                np.array([[joint in known[k].joints for joint in run.layout.joints] for k in shown]),
                typical_poses(store, store.splits[trained], shown),
                drawn["critical-joints"],
                total=len(run.classes),
            )
        return drawn

    return Findings(
        document={
            "refreshes": analysis.rounded([asdict(row) for row in refreshes.summarise(records, reference)]),
            "sentence_match": analysis.rounded(matches),
            "strongest_links": _strongest_links(topology_BVV.mean(axis=0), run.layout.joints),
        },
        pairs=[_pair_row(pair) for pair in refreshes.explain_pairs(pairs, run.classes, known, records)],
        page=lambda texts: page_parts(run, dialogue, known, records, texts),
        facts={"Agents": ", ".join(sorted({spec_of(each.identity) for each in dialogue.values()})) or "none"},
        missing=_missing(config, known is not None, records, snapshots),
        draw=draw,
    )


def learned_topology(model: Recogniser) -> np.ndarray:
    """The learned graph of every block `[B, V, V]`, from joint (row) to joint (column), mean over its subsets.

    That is A alone, what the blocks have in common for all clips and channels (the paper's Fig. 6); what a clip adds
    to it is scaled by alpha and beta, which stay small.
    """
    return np.stack([graph.detach().float().mean(0).cpu().numpy() for graph in model.graphs])


def _missing(
    config: SkeletonAgentConfig,
    has_knowledge: bool,
    records: Sequence[refreshes.RefreshRecord],
    snapshots: Sequence[refreshes.Snapshot],
) -> list[str]:
    if not has_knowledge:
        return ["sentences, critical joints, refreshes and embeddings: this run was trained without agents"]
    missing = []
    if not records:
        missing.append("refreshes: there were none in this run")
    if not config.agents.beta:
        missing.append("embeddings: this run was trained without alignment (beta 0)")
    elif not snapshots:
        missing.append("embeddings: the run has no refreshes/epoch-NNN.npz, an earlier skag trained it")
    return missing


def _pair_row(found: refreshes.ExplainedPair) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for side, known in (("true", found.true), ("predicted", found.predicted)):
        row[f"{side}_sentence"] = None if known is None else known.sentence
        row[f"{side}_joints"] = None if known is None else known.joints
    row["joints_apart"] = found.joints_apart
    row["refreshes"] = [asdict(change) | {"change": change.change} for change in found.refreshes]
    return row


def _strongest_links(mean_VV: np.ndarray, joints: Sequence[str]) -> list[dict[str, Any]]:
    strongest = np.argsort(-np.abs(mean_VV), axis=None)[:_STRONGEST_LINKS]
    return [
        {"from": joints[v], "to": joints[w], "weight": round(float(mean_VV[v, w]), 4)}
        for v, w in zip(*np.unravel_index(strongest, mean_VV.shape), strict=True)
    ]
