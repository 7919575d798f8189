"""How closely the results of two calls agree.

The last bits of a sum depend on its order, and that on the processor, on the shapes and strides of
the inputs and on where they lie in memory. Only the very same call gives the same bits again; for
everything else there is `close`.
"""

import numpy as np
import torch


def close(actual, expected, tolerance=1e-4):
    """Raise unless all values agree within `tolerance` of the largest that is expected."""
    largest = expected.detach().abs().max().item()
    torch.testing.assert_close(actual, expected, atol=tolerance * largest, rtol=0)


def close_pixels(actual, expected):
    """Raise unless pixels (uint8) differ by one level at most."""
    assert actual.shape == expected.shape
    assert np.abs(actual.astype(int) - expected).max() <= 1
