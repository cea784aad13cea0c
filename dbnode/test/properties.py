"""How the property tests of this package run: the same examples each time, and nothing left on the disk."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st

from dbnode.schema import INT64_MAX, INT64_MIN

same_each_time = settings(derandomize=True, deadline=None, database=None)

#: Every kind of value that a column can have.
VALUES = st.one_of(
    st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=20),
    st.integers(INT64_MIN, INT64_MAX),
    st.floats(allow_nan=False, allow_infinity=False),
    st.booleans(),
    st.none(),
)
