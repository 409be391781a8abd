"""Sentences to vectors: a frozen text encoder by name, each sentence embedded once and kept in HDF5.

Three kinds of encoder: `lexical`, built in, which compares wording and needs no weights; `open_clip:MODEL`, the text
tower of a CLIP model (see `text_open_clip`); and `hf:MODEL`, a BERT or sentence encoder (see `text_hf`). The cache
holds one group per encoder, where an encoder is its name or configuration, and a checksum of its weights and of its
tokeniser's files:

    /<hash>/sentence    uint8 [n, 32]     SHA-256 of every sentence
    /<hash>/embedding   float32 [n, D]    its vector, L2-normalised
    /<hash>             attribute encoder (JSON of what the hash was taken from)
    attribute           format

A cache is only ever replaced as a whole, by renaming a complete file, so a killed process leaves the old one. All of
it can be computed again: a damaged one is put aside and rebuilt.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import logging
import os
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import TextError
from ..weights import listed

LEXICAL = "lexical"
LEXICAL_DIM = 512  # bits of one BLAKE2b digest; also the width of the published model's embedding
_OPEN_CLIP, _HF = "open_clip:", "hf:"
_SUGGESTED = (
    LEXICAL,
    "open_clip:ViT-B-32",
    "open_clip:ViT-B-16",
    "open_clip:RN101",
    "hf:bert-base-uncased",
    "hf:sentence-transformers/all-MiniLM-L6-v2",
)
_NEAR = 0.9  # share of an encoder's token limit from which on a sentence is remarked upon
_FORMAT = "skag-text-1"
_Tables = dict[str, dict[bytes, np.ndarray]]  # identity of an encoder -> sentence hash -> float32 [D]
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Encoder:
    """A text encoder that is ready to use. `identity` (JSON) holds all that shapes a vector but the sentence."""

    identity: str
    encode: Callable[[list[str]], np.ndarray]  # n sentences -> float32 [n, D], L2-normalised


def embed(
    sentences: list[str], encoder: str, *, weights: Path | None = None, cache: Path, device: str = "cpu"
) -> np.ndarray:
    """Vectors of `sentences`, float32 `[n, D]`, L2-normalised. What `cache` (an HDF5 file) holds is not computed again.

    `encoder` is `lexical`, `open_clip:MODEL`, `open_clip:MODEL:TAG`, `hf:MODEL` or `hf:FOLDER`; `weights` is a weights
    file or folder for all but the first. Raises `TextError` for an unknown encoder, for weights that are missing or do
    not fit, and for a cache that cannot be written.
    """
    opened = open_encoder(encoder, weights=weights, device=device)
    sentences = [_clean(sentence) for sentence in sentences]
    wanted = {_sentence_hash(sentence): sentence for sentence in sentences}  # a sentence given twice is computed once
    known = _read(cache, set_aside=False).get(opened.identity, {})
    if not wanted.keys() <= known.keys():
        with _locked(cache):
            tables = _read(cache, set_aside=True)  # another process may have filled it meanwhile
            known = tables.setdefault(opened.identity, {})
            if missing := [key for key in wanted if key not in known]:
                known.update(zip(missing, opened.encode([wanted[key] for key in missing]), strict=True))
                _write(cache, tables)
    if not sentences:
        return opened.encode([])
    return np.stack([known[_sentence_hash(sentence)] for sentence in sentences])


def words_of(name: str) -> str:
    """A class's name as words: `sit_down` and `sit-down` as `sit down`."""
    return " ".join(name.replace("_", " ").replace("-", " ").split()) or name


def token_count(sentence: str, encoder: str, *, weights: Path | None = None) -> int | None:
    """Tokens of `sentence`, special ones included, before it is cut; None where the encoder has no tokens.

    CLIP text towers read 77 tokens, BERT 512. `weights` as for `embed`; of `hf:` encoders the tokeniser's files must be
    there or are downloaded. Raises `TextError`.
    """
    tokeniser = _open_tokeniser(encoder, weights)
    return None if tokeniser is None else tokeniser[0](_clean(sentence))


def length_remark(
    names: Sequence[str], sentences: Sequence[str], encoder: str, *, weights: Path | None = None
) -> str | None:
    """One line on the sentences that are longer than 90 % of what the encoder reads; None where there are none.

    `names` says whose each sentence is. A sentence past the limit loses its end. Raises `TextError` as `token_count`.
    """
    tokeniser = _open_tokeniser(encoder, weights)
    if tokeniser is None or (limit := tokeniser[1]) is None:
        return None
    counts = [tokeniser[0](_clean(sentence)) for sentence in sentences]
    longest = sorted(zip(counts, names, strict=True), key=lambda pair: -pair[0])
    parts = []
    for what, found in (
        ("cut at the limit", [(count, name) for count, name in longest if count > limit]),
        ("near it", [(count, name) for count, name in longest if _NEAR * limit < count <= limit]),
    ):
        if found:
            parts.append(f"{what}: " + listed((f"{name} ({count})" for count, name in found), most=10))
    return f"{encoder} reads {limit} tokens of a sentence; {'; '.join(parts)}." if parts else None


def check_encoder(encoder: str) -> None:
    """Raise `TextError` unless `encoder` has a known form; a model's own name is looked up when it is opened."""
    if encoder == LEXICAL or (encoder.startswith(_OPEN_CLIP) and all(encoder.split(":"))):
        return
    if encoder.startswith(_HF) and encoder != _HF:
        return
    near = []
    if not encoder.startswith((_OPEN_CLIP[:-1], _HF)):
        near = difflib.get_close_matches(encoder, _SUGGESTED, n=1)
    hint = f" (nearest: {near[0]})" if near else ""
    raise TextError(f"no text encoder {encoder!r}{hint}: use {LEXICAL}, open_clip:MODEL[:TAG], hf:MODEL or hf:FOLDER.")


def open_encoder(encoder: str, *, weights: Path | None = None, device: str = "cpu") -> Encoder:
    """The encoder of that name, without a cache. Raises `TextError`; see `embed`."""
    check_encoder(encoder)
    if encoder == LEXICAL:
        if weights is not None:
            raise TextError("the lexical text encoder has no weights: leave out --text-weights.")
        return Encoder(json.dumps({"encoder": LEXICAL, "version": 1}), _lexical)
    if encoder.startswith(_HF):
        from . import hf as text_hf

        return Encoder(*text_hf.open_sentence_encoder(encoder.removeprefix(_HF), weights, device))
    from . import open_clip as text_open_clip

    model, tag = _model_and_tag(encoder)
    return Encoder(*text_open_clip.open_text_tower(model, tag, weights, device))


def _open_tokeniser(encoder: str, weights: Path | None) -> tuple[Callable[[str], int], int | None] | None:
    """A function that counts tokens, and the encoder's limit; None for an encoder without tokens."""
    check_encoder(encoder)
    if encoder == LEXICAL:
        return None
    if encoder.startswith(_HF):
        from . import hf as text_hf

        return text_hf.open_tokeniser(encoder.removeprefix(_HF), weights)
    from . import open_clip as text_open_clip

    return text_open_clip.open_tokeniser(_model_and_tag(encoder)[0])


def open_trainable(encoder: str, *, weights: Path | None = None, device: str = "cpu") -> tuple[Any, Any]:
    """The text tower of an open_clip encoder as a torch module to be trained along, and a function from n sentences to
    its token numbers `[n, L]`. Raises `TextError`."""
    if not encoder.startswith(_OPEN_CLIP):
        raise TextError(f"train_text_encoder trains an open_clip encoder, not {encoder}: use open_clip:ViT-B-32.")
    check_encoder(encoder)
    from . import open_clip as text_open_clip

    return text_open_clip.open_trainable(*_model_and_tag(encoder), weights, device)


def _model_and_tag(encoder: str) -> tuple[str, str | None]:
    model, _, tag = encoder.removeprefix(_OPEN_CLIP).partition(":")
    return model, tag or None


def _clean(sentence: str) -> str:
    """A language model's answer may hold half a character (a lone surrogate), which no encoder can read."""
    return sentence.encode("utf-8", "replace").decode("utf-8")


# The lexical encoder -------------------------------------------------------------------------------------------------

_WORD = re.compile(r"[^\W_]+")
# Inverse document frequency from fixed tables: taken over the sentences at hand it would change every vector whenever
# one class gets a new sentence. Words of grammar and words that any description of any action has count nothing ...
_EMPTY_WORDS = frozenset(
    _WORD.findall(
        """
        a an and are as at be been being by can for from has have he her his in into is it its of on one or she that
        the their them then there these they this those to was which while who will with
        action actions body class compared distinguished distinguishes feature features include includes involve
        involves involving key motion motions move moved movement movements moves moving perform performing performs
        person persons recognised recognized subject than unlike
        """
    )
)
# ... and words found in a tenth of them or more count half.
_COMMON_WORDS = frozenset(
    _WORD.findall(
        """
        ankle ankles arm arms back backward balance bending bends both downward elbow elbows feet foot forward hand
        hands head hip hips knee knees left leg legs right rotation rotations shoulder shoulders side slight slightly
        spine torso trunk upper upward wrist wrists
        """
    )
)


def _lexical(sentences: list[str]) -> np.ndarray:
    """Hashed, weighted word and character n-grams under a fixed random projection, float32 `[n, 512]`.

    An n-gram's row of the +1/-1 projection (Achlioptas, JCSS 2003) is the 512 bits of its BLAKE2b digest: hashing and
    projecting in one, with no matrix to keep, and the same on every machine.
    """
    vectors = np.zeros((len(sentences), LEXICAL_DIM))
    rows: dict[str, np.ndarray] = {}
    for i, sentence in enumerate(sentences):
        for gram, weight in _grams(sentence).items():
            if gram not in rows:
                rows[gram] = _projection_row(gram)
            vectors[i] += weight * rows[gram]
        vectors[i] /= np.linalg.norm(vectors[i])
    return vectors.astype(np.float32)


def _projection_row(gram: str) -> np.ndarray:
    digest = hashlib.blake2b(gram.encode(), digest_size=LEXICAL_DIM // 8, person=b"skag lexical 1").digest()
    return np.unpackbits(np.frombuffer(digest, np.uint8)) * 2.0 - 1.0


def _grams(sentence: str) -> dict[str, float]:
    """n-gram -> weight. Words give the topic; pairs and triples of words give order and side, in which look-alike
    sentences differ; parts of words let "raise" and "raises" agree a little; the whole sentence keeps any two apart.
    """
    words = _WORD.findall(unicodedata.normalize("NFKC", sentence).casefold())
    content = [word for word in words if word not in _EMPTY_WORDS]
    grams = {"sentence " + (" ".join(words) or sentence): 1.0}
    for word in content:
        weight = 0.5 if word in _COMMON_WORDS else 1.0
        grams["word " + word] = weight
        framed = f"<{word}>"
        parts = {framed[i : i + n] for n in (4, 5) for i in range(len(framed) - n + 1)}
        for part in parts:
            grams["part " + part] = max(grams.get("part " + part, 0.0), 0.6 * weight / len(parts) ** 0.5)
    for n in (2, 3):
        for i in range(len(content) - n + 1):
            grams["words " + " ".join(content[i : i + n])] = 1.0
    return grams


# The cache -----------------------------------------------------------------------------------------------------------


def _sentence_hash(sentence: str) -> bytes:
    return hashlib.sha256(sentence.encode()).digest()


def _read(cache: Path, *, set_aside: bool) -> _Tables:
    """Everything a cache holds; nothing where it is missing or damaged.

    Opened without HDF5's lock, which some network file systems refuse: a cache is never written in place.
    """
    import h5py

    if not cache.exists():
        return {}
    if not cache.is_file():
        raise TextError(f"{cache} is no file: choose another place for the text cache.")
    tables: _Tables = {}
    try:
        with h5py.File(cache, "r", locking=False) as file:
            if (found := file.attrs.get("format", "none")) != _FORMAT:
                raise TextError(f"{cache} is another kind of HDF5 file (format {found}): choose another place.")
            for group in file.values():
                hashes, vectors = group["sentence"][:], group["embedding"][:]
                if hashes.shape != (len(vectors), 32) or vectors.ndim != 2:
                    raise ValueError(f"{len(hashes)} sentences with {len(vectors)} vectors")
                tables[group.attrs["encoder"]] = dict(zip(map(bytes, hashes), vectors, strict=True))
    except PermissionError:
        raise TextError(f"the text cache {cache} may not be read: change its access rights.") from None
    except (OSError, KeyError, ValueError, RuntimeError, TypeError, AttributeError) as error:
        if set_aside:
            _set_aside(cache, error)
        return {}
    return tables


def _set_aside(cache: Path, error: Exception) -> None:
    number = 1
    while (aside := cache.with_name(f"{cache.name}.damaged-{number}")).exists():
        number += 1
    cache.replace(aside)
    _log.warning("The text cache %s is damaged (%s): kept as %s and computed again.", cache, error, aside.name)


@contextmanager
def _locked(cache: Path) -> Iterator[None]:
    """One writer at a time, by a lock file beside the cache."""
    from filelock import FileLock

    lock = FileLock(f"{cache}.lock")
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except OSError as error:
        raise _unwritable(cache, error) from None
    try:
        yield
    finally:
        lock.release()


def _write(cache: Path, tables: _Tables) -> None:
    """Put a complete file in the cache's place. Call with the lock held."""
    import h5py

    partial = cache.with_name(f".{cache.name}.partial")  # one name, so that what a killed process left is replaced
    try:
        with h5py.File(partial, "w") as file:
            file.attrs["format"] = _FORMAT
            for identity, known in tables.items():
                group = file.create_group(hashlib.sha256(identity.encode()).hexdigest())
                group.attrs["encoder"] = identity
                hashes = np.frombuffer(b"".join(known), np.uint8).reshape(-1, 32)
                # fletcher32: a flipped bit is an error when read, not a wrong vector
                group.create_dataset("sentence", data=hashes, fletcher32=True)
                group.create_dataset("embedding", data=np.stack(list(known.values())), fletcher32=True)
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(cache)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise _unwritable(cache, error) from None


def _unwritable(cache: Path, error: OSError) -> TextError:
    return TextError(f"cannot write the text cache {cache} ({error.strerror or error}): free the place or use another.")
