"""The Selector: turns a dialogue into what a network can use.

That is the critical joints of every class, `[K classes, V joints]`, and one sentence per class.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial

import numpy as np

from ...backends.contradictions import Witness, without_contradicted
from ...dialogue.exchanges import Conversation
from ...dialogue.formats import MAX_JOINTS, FormatProblem, joint_name_pattern, read_critical_joints
from ...errors import DialogueError
from ...skeleton.layouts import Layout
from .script import DISTINCTION, KEY_FEATURES, MOVEMENTS


def critical_mask(conversations: Sequence[Conversation], layout: Layout, with_distinctions: bool = False) -> np.ndarray:
    """Critical joints `[K, V]` uint8 of every class, from round 4 as in the published code.

    `with_distinctions` adds the joints that round 6 calls by their names, up to ten in all. Of an imported dialogue all
    lines count, as in the published masks (24 of its 834 classes have eleven or more). Raises `DialogueError` naming
    class and round where an answer does not fit the layout.
    """
    mask_KV = np.zeros((len(conversations), layout.num_joints), np.uint8)
    for row, conversation in zip(mask_KV, conversations, strict=True):
        most = MAX_JOINTS if not _imported(conversation) else layout.num_joints
        try:
            lines = conversation.text(MOVEMENTS.number) or ""
            joints = [found.joint for found in read_critical_joints(lines, layout, most)]
        except FormatProblem as problem:
            raise DialogueError(
                f"class {conversation.class_name!r}, round {MOVEMENTS.number}: the answer does not fit layout "
                f"{layout.name!r} ({problem}); describe the class again."
            ) from None
        if with_distinctions:
            named = named_joints(conversation.text(DISTINCTION.number) or "", layout)
            joints += [joint for joint in named if joint not in joints]
        row[joints[:most]] = 1
    return mask_KV


def without_contradicted_joints(
    mask_KV: np.ndarray, conversations: Sequence[Conversation], witness: Witness
) -> np.ndarray:
    """Critical joints without those whose movement the training clips contradict; a class keeps one at least."""
    kept_KV = mask_KV.copy()
    for row, conversation in zip(kept_KV, conversations, strict=True):
        found = witness.of_lines(conversation.class_name, conversation.text(MOVEMENTS.number) or "")
        row[[witness.layout.index[each.joint] for each in found]] = 0
    return np.where(kept_KV.any(1, keepdims=True), kept_KV, mask_KV)


def _imported(conversation: Conversation) -> bool:
    told = conversation.exchanges.get(MOVEMENTS.number)
    return told is not None and told.identity.get("backend") == "imported"


def named_joints(text: str, layout: Layout) -> list[int]:
    """Joints whose exact names stand in a text, in the order of their first mention."""
    found = re.findall(rf"(?<!\w)({joint_name_pattern(layout)})(?!\w)", text, re.IGNORECASE)
    index = {name.casefold(): joint for name, joint in layout.index.items()}
    return list(dict.fromkeys(index[name.casefold()] for name in found if name.casefold() in index))


def sentences(conversations: Sequence[Conversation], witness: Witness | None = None) -> list[str]:
    """One sentence per class: its distinction (round 6) where there is one, else its key features (round 5); with a
    witness without clauses that the training clips contradict."""
    told = ((each.text(DISTINCTION.number), each.text(KEY_FEATURES.number)) for each in conversations)
    found = [(distinction or key_features or "").strip() for distinction, key_features in told]
    if witness is None:
        return found
    return [
        without_contradicted(text, partial(witness.of_sentence, each.class_name))
        for text, each in zip(found, conversations, strict=True)
    ]
