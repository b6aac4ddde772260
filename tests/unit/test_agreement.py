"""The rows of a log, brought together in portions that memory holds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loader.verify import agreement
from loader.verify.row_text import BUCKET

STREAMS = st.lists(st.sets(st.integers(1, 40), min_size=1), max_size=8)


@pytest.mark.parametrize("buckets_at_once", [1, 2, 64])
@given(numbers=STREAMS)
def test_each_bucket_is_whole_in_one_portion(numbers: list[set[int]], buckets_at_once: int) -> None:
    rows = {f"{at:032x}": {BUCKET // 4 * n for n in some} for at, some in enumerate(numbers)}
    extents = [(stream, len(seqs) * BUCKET // 4, min(seqs), max(seqs)) for stream, seqs in rows.items()]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(agreement, "_ROWS_AT_ONCE", buckets_at_once * BUCKET)
        portions = list(agreement._portions(extents))
    for stream, seqs in rows.items():
        for seq in seqs:
            holding = [(first, last) for streams, first, last in portions if stream in streams and first <= seq <= last]
            assert len(holding) == 1
            first, last = holding[0]
            others = {n for n in seqs if n // BUCKET == seq // BUCKET}
            assert all(first <= n <= last for n in others)
    for streams, first, last in portions:
        assert streams
        if len(streams) > 1:
            assert sum(len(rows[stream]) * BUCKET // 4 for stream in streams) <= buckets_at_once * BUCKET
        else:
            assert last - first < buckets_at_once * BUCKET or first == 0
