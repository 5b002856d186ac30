"""Nested values to try: boundary numbers and other leaves, nested anyhow."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from maas.types import MAX_RANK

BOUNDARIES = sorted(
    {
        sign * (2**power + near)
        for power in (0, 7, 8, 15, 16, 24, 31, 32, 53, 63, 64, 128, 1024)
        for near in (-1, 0, 1)
        for sign in (-1, 1)
    }
)
integers = st.sampled_from(BOUNDARIES) | st.integers(-300, 300) | st.sampled_from([10**400])
floats = (
    st.floats(allow_nan=True, allow_infinity=True)
    | st.floats(width=16)
    | st.sampled_from([65504.0, 65519.0, 65520.0, 65536.0, 3.4028234e38, 3.4028236e38, 1e39, 5e-324, -0.0])
)
leaves = {
    "int": integers,
    "float": floats,
    "number": integers | floats,
    "bool": st.booleans(),
    "text": st.text(max_size=3),
    "any": st.none() | st.booleans() | integers | floats | st.text(max_size=3) | st.just({}),
}


@st.composite
def rectangles(draw: st.DrawFn, inner: st.SearchStrategy[Any]) -> Any:
    """Nested lists of one shape, of any rank up to one too many, axes of length 0 among them."""
    shape = draw(
        st.lists(st.integers(0, 3), max_size=3) | st.integers(4, MAX_RANK + 1).map(lambda n: [1] * n)
    )

    def build(depth: int) -> Any:
        return draw(inner) if depth == len(shape) else [build(depth + 1) for _ in range(shape[depth])]

    return build(0)


anything = st.sampled_from(sorted(leaves)).flatmap(
    lambda kind: (
        rectangles(leaves[kind]) | st.recursive(leaves[kind], lambda part: st.lists(part, max_size=3))
    )
)
