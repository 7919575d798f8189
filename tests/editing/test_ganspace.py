import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from sdic.editing.ganspace import principal_components, read_components
from sdic.errors import InputError
from tiny import tiny_generator


@pytest.fixture(scope="module")
def generator():
    return tiny_generator(channels=(8, 8))


def test_components_are_those_of_an_independent_pca(generator):
    num = 12_500  # more than one batch, the last one short
    found = principal_components(generator, num, count=5, seed=3)
    random = torch.Generator().manual_seed(3)
    z = torch.cat([torch.randn(n, 512, generator=random) for n in (10_000, 2_500)])
    w = generator.mapping(z).double().numpy()
    reference = PCA(5, svd_solver="covariance_eigh").fit(w)
    assert np.allclose(found.mean, reference.mean_, atol=1e-5)
    assert np.allclose(found.std**2 * num / (num - 1), reference.explained_variance_, rtol=1e-4)
    assert np.allclose(found.share, reference.explained_variance_ratio_, rtol=1e-4)
    cosines = (found.vectors.double().numpy() * reference.components_).sum(1)
    assert np.allclose(np.abs(cosines), 1, atol=1e-5)


def test_components_are_orthonormal_seeded_and_of_fixed_sign(generator):
    found = principal_components(generator, 3_000, count=8, seed=1)
    again = principal_components(generator, 3_000, count=8, seed=1)
    assert torch.equal(found.vectors, again.vectors)
    assert torch.allclose(found.vectors @ found.vectors.T, torch.eye(8), atol=1e-5)
    largest = found.vectors.gather(1, found.vectors.abs().argmax(1, keepdim=True))
    assert (largest > 0).all()
    assert (found.std.diff() <= 0).all()
    other = principal_components(generator, 3_000, count=8, seed=2)
    assert not torch.equal(found.vectors, other.vectors)


def test_direction_of_a_component(generator):
    found = principal_components(generator, 2_000, count=2)
    direction = found.direction(1, "hat", rows=range(3))
    assert direction.rows == (0, 1, 2)
    assert direction.strength_range[1] == pytest.approx(3 * float(found.std[1]), abs=0.01)
    for component in (-1, 2):
        with pytest.raises(InputError, match="there are 2"):
            found.direction(component)


def test_numbers_out_of_range_are_told(generator):
    for num, count in ((100, 0), (100, 513), (10, 8)):
        with pytest.raises(InputError, match="at least twice as many"):
            principal_components(generator, num, count)


def test_published_file_is_read(tmp_path):
    path = tmp_path / "ffhq_pca.pt"
    mean, comp, std = torch.randn(1, 512), torch.randn(80, 1, 512), torch.rand(80)
    torch.save({"mean": mean, "comp": comp, "std": std}, path)
    found = read_components(path, "stylegan2")
    edit = found.absolute(58, range(7, 9), -20.0)
    assert torch.equal(edit.vector, comp[58, 0])
    assert torch.equal(edit.mean, mean[0])
    assert edit.rows == (7, 8)
    assert edit.target == pytest.approx(-20 * float(std[58]))
    torch.save({"mean": mean, "comp": comp}, path)
    with pytest.raises(InputError, match="has mean, comp and std"):
        read_components(path, "stylegan2")
    torch.save({"mean": mean, "comp": comp[:7], "std": std}, path)
    with pytest.raises(InputError, match="K x 1 x 512"):
        read_components(path, "stylegan2")
