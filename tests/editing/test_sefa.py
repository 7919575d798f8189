import numpy as np
import pytest
import torch
from torch import nn

from sdic.editing.sefa import factorise, sefa_directions, style_weights
from sdic.errors import InputError
from tiny import tiny_generator


@pytest.fixture(scope="module")
def generator():
    return tiny_generator(channels=(16, 16, 16))


@pytest.mark.parametrize("normalise", [True, False])
def test_vectors_are_the_right_singular_vectors_of_the_weights(normalise):
    random = torch.Generator().manual_seed(0)
    weights = [torch.randn(n, 512, generator=random) for n in (40, 60)]
    vectors, values = factorise(weights, 4, normalise)
    matrix = torch.cat(weights).double().numpy()
    if normalise:
        matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    _, singular, right = np.linalg.svd(matrix, full_matrices=False)
    assert np.allclose(values, singular[:4] ** 2, rtol=1e-4)
    assert np.allclose(np.abs((vectors.double().numpy() * right[:4]).sum(1)), 1, atol=1e-5)


def test_no_unit_step_changes_the_styles_more(generator):
    weight = torch.cat([style_weights(generator)[row] for row in (4, 5)])
    vectors, _ = factorise([weight], 1, normalise=False)
    most = (weight @ vectors[0]).norm()
    steps = nn.functional.normalize(torch.randn(200, 512), dim=1)
    assert (steps @ weight.T).norm(dim=1).max() < most


def test_style_weights_belong_to_the_rows_that_drive_them(generator):
    weights = style_weights(generator)
    assert sorted(weights) == [0, 1, 2, 4, 5, 7, 8]
    assert torch.equal(weights[0], generator.conv1.modulation.weight)
    block = generator.blocks[1]
    expected = torch.cat((block.up.weight, block.conv1.modulation.weight))
    assert torch.equal(weights[4], expected)


def test_style_weights_of_the_stylegan2_layout():
    class Convolution(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Module()
            self.conv.modulation = nn.Linear(512, 8)

    network = nn.Module()
    network.name = "stylegan2"
    network.conv1 = Convolution()
    network.convs = nn.ModuleList(Convolution() for _ in range(4))
    network.to_rgb1 = Convolution()
    weights = style_weights(network)
    assert sorted(weights) == [0, 1, 2, 3, 4]
    assert torch.equal(weights[3], network.convs[2].conv.modulation.weight)


def test_directions_touch_the_rows_they_come_from(generator):
    directions = sefa_directions(generator, rows=[3, 4, 5], count=3)
    assert [d.rows for d in directions] == [(4, 5)] * 3
    assert [d.name for d in directions] == ["sefa-4-5-0", "sefa-4-5-1", "sefa-4-5-2"]
    vectors = torch.stack([d.vector for d in directions])
    assert torch.allclose(vectors @ vectors.T, torch.eye(3), atol=1e-5)
    assert sefa_directions(generator, count=1)[0].rows is None


def test_what_cannot_be_factorised_is_told(generator):
    with pytest.raises(InputError, match="driven by rows"):
        sefa_directions(generator, rows=[3])
    with pytest.raises(InputError, match="at least one layer"):
        factorise([], 1)
    other = nn.Linear(4, 4)
    other.name = "other"
    with pytest.raises(InputError, match="not known to SeFa"):
        style_weights(other)
