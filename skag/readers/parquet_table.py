"""Recordings in Parquet files, a row per frame; columns as `skag.readers.tables` describes.

One file is a recording, or holds several one after another. Rows come in small batches. Parquet is read by pyarrow,
which skag does not need otherwise: `pip install pyarrow`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np

from ..errors import DataError
from . import tables
from .archives import MAX_RATIO, MIN_TOTAL, Files, printable
from .source import Options, Source, Unusable

ENDINGS = (".parquet", ".pq")
BATCH = 256


class _Parquet:
    """An opened Parquet file, see `tables.Table`."""

    def __init__(self, stream: BinaryIO) -> None:
        from pyarrow import parquet

        size = stream.seek(0, 2)
        stream.seek(0)
        try:
            self._file = parquet.ParquetFile(stream, page_checksum_verification=True)
            groups = [self._file.metadata.row_group(n) for n in range(self._file.metadata.num_row_groups)]
            self.header = list(self._file.schema_arrow.names)
        except Exception as error:  # a parser of foreign bytes raises nearly anything
            raise _damaged(error) from None
        if sum(group.total_byte_size for group in groups) > max(MIN_TOTAL, MAX_RATIO * size):
            raise Unusable("expands to far more than its size")

    def rows(self, facts: list[int], numbers: list[int]) -> Iterator[tables.Cells]:
        names = [self.header[column] for column in [*facts, *numbers]]
        try:
            for batch in self._file.iter_batches(BATCH, columns=sorted(set(names)), use_threads=False):
                texts = [[_text(value) for value in batch.column(self.header[n]).to_pylist()] for n in facts]
                columns = [_numbers(batch.column(self.header[n]), self.header[n]) for n in numbers]
                values = np.stack(columns, axis=1) if columns else np.empty((batch.num_rows, 0))
                for n in range(batch.num_rows):
                    yield [text[n] for text in texts], values[n]
        except Unusable:
            raise
        except Exception as error:  # as above
            raise _damaged(error) from None


def _damaged(error: Exception) -> Unusable:
    return Unusable(f"is no Parquet file, or a damaged one ({type(error).__name__})")


def _text(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():  # what was a whole number before others were missing
        return str(int(value))
    return "" if value is None else str(value)


def _numbers(column: Any, name: str) -> np.ndarray:
    import pyarrow as pa

    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        raise Unusable(f"has a column of coordinates of type {column.type}, {printable(name, 40)}")
    return column.cast(pa.float64()).to_numpy(zero_copy_only=False)  # what is null becomes NaN


def _is_parquet(name: str) -> bool:
    return tables.is_table(name, ENDINGS)


def recognises(files: Files) -> bool:
    """Whether there is a Parquet file (what is in it is seen when it is read)."""
    return any(map(_is_parquet, files.names))


def paths(files: Files) -> list[str]:
    """The files, of which each may hold several recordings."""
    return list(filter(_is_parquet, files.names))


def read(files: Files, options: Options) -> Source:
    """Recordings in the order of files and rows. Raises `DataError` where pyarrow is not installed."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError:
        raise DataError("Parquet files are read by pyarrow, which is not installed: pip install pyarrow") from None
    return tables.read(files, options, _is_parquet, _Parquet)
