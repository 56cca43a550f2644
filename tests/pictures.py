"""Pictures that property tests of degradations draw: any type, grey or colour, down to a pixel."""

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

shapes = st.tuples(*[st.integers(1, 33)] * 2, st.sampled_from([1, 3]))
photos = st.one_of(
    arrays(st.sampled_from([np.uint8, np.uint16]), shapes),
    arrays(np.float32, shapes, elements=st.floats(0, 1, width=32)),
)
seeds = st.integers(0, 2**32)
