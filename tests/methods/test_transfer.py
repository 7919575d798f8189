"""The ways to carry a compensation over to an edit: what each does, and where all agree."""

import pytest
import torch

from rounding import close
from sdic.domains import FACES
from sdic.methods.sdic.carry_over import Addition, relative_change, released
from sdic.methods.sdic.compact_transfer import CompactTransfer, warp


def features(seed: int, channels: int = 8) -> torch.Tensor:
    return torch.randn(2, channels, 8, 8, generator=torch.Generator().manual_seed(seed))


def trained_like() -> CompactTransfer:
    """A network whose every layer has a say."""
    torch.manual_seed(0)
    network = CompactTransfer(8, 6, 4).eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return network


@pytest.mark.parametrize("transfer", [Addition(), trained_like()])
@torch.no_grad()
def test_without_a_change_all_give_back_the_compensated_features(transfer):
    base, compensated = features(0), features(1)
    torch.testing.assert_close(transfer(compensated, base, base), compensated)


def test_addition_is_eq_6():
    base, compensated, edited = features(0), features(1), features(2)
    torch.testing.assert_close(Addition()(compensated, base, edited), compensated + (edited - base))


def test_relative_change_is_1_where_the_change_is_as_large_as_the_features():
    base = torch.full((1, 3, 6, 6), 2.0)
    torch.testing.assert_close(relative_change(base, base - 2), torch.ones(1, 1, 6, 6))
    torch.testing.assert_close(relative_change(base, base), torch.zeros(1, 1, 6, 6))


def test_without_a_change_nothing_is_released():
    base, carried = features(0), features(1)
    torch.testing.assert_close(released(carried, base, base, 0.5), carried)


def test_a_large_release_lets_nothing_go():
    base, carried, edited = features(0), features(1), features(2)
    torch.testing.assert_close(released(carried, base, edited, 1e6), carried)


def test_where_the_edit_changes_much_its_features_win_on_the_face_alone():
    random = torch.Generator().manual_seed(0)
    base, carried = torch.randn(2, 1, 4, 64, 64, generator=random)
    edited = base.clone()
    edited[..., 32:] += 100
    result = released(carried, base, edited, 0.5)
    torch.testing.assert_close(result[..., 36, 36], edited[..., 36, 36], atol=0.2, rtol=0.05)
    torch.testing.assert_close(result[..., 36, 20], carried[..., 36, 20])  # not changed
    torch.testing.assert_close(result[..., 2, 60], carried[..., 2, 60], atol=0.2, rtol=0.05)


def test_at_the_change_of_release_a_share_of_1_over_e_is_kept_on_the_face():
    base, carried = torch.ones(1, 2, 64, 64), torch.full((1, 2, 64, 64), 3.0)
    result = released(carried, base, base + 0.25, 0.25)
    expected = 1.25 + 1.75 * torch.exp(torch.tensor(-1.0))
    torch.testing.assert_close(result[..., 36, 32], expected.expand(1, 2), atol=0.01, rtol=0)


def test_the_face_of_an_aligned_photo_is_in_its_middle():
    weights = FACES.focus.weights(64, 64)
    assert weights[36, 32] > 0.99
    assert weights[0].max() < 0.1
    assert weights[:, 0].max() < 0.1
    close(weights, weights.flip(1))


@torch.no_grad()
def test_the_network_starts_as_a_rule_that_releases_half():
    torch.manual_seed(0)
    network = CompactTransfer(8, 6, 4)
    base, compensated = features(0), features(1)
    edited = base + 100  # so much that the network has all of its say
    result = network(compensated, base, edited)
    torch.testing.assert_close(result, edited + 0.5 * (compensated - base), rtol=1e-4, atol=1e-3)


def test_the_network_learns_to_move_what_an_edit_moves():
    """The compensation is a spot that an edit moves by two cells: no rule without a flow can."""
    torch.manual_seed(0)
    network = CompactTransfer(4, 8, 4)
    random = torch.Generator().manual_seed(1)
    optimiser = torch.optim.Adam(network.parameters(), 1e-2)

    def example() -> tuple[torch.Tensor, ...]:
        base = torch.randn(4, 4, 16, 16, generator=random)
        spot = torch.zeros(4, 4, 16, 16)
        for i in range(4):
            y, x = torch.randint(3, 11, (2,), generator=random)
            spot[i, :, y : y + 2, x : x + 2] = 3
        edited = base.roll(2, dims=3)
        return base + spot, base, edited, edited + spot.roll(2, dims=3)

    def loss() -> torch.Tensor:
        compensated, base, edited, truth = example()
        return (network(compensated, base, edited) - truth).square().mean()

    with torch.no_grad():
        before = loss()
    for _ in range(60):
        optimiser.zero_grad()
        loss().backward()
        optimiser.step()
    with torch.no_grad():
        assert loss() < 0.5 * before


def test_a_flow_reads_from_where_it_points():
    maps = torch.arange(16.0).view(1, 1, 4, 4)
    still = warp(maps, torch.zeros(1, 2, 4, 4))
    close(still, maps)
    flow = torch.zeros(1, 2, 4, 4)
    flow[:, 0] = 2 / 4  # one cell to the right
    close(warp(maps, flow)[..., :3], maps[..., 1:])
    close(warp(maps, flow)[..., 3], maps[..., 3])


def test_gradients_reach_every_parameter():
    network = trained_like()
    result = network(features(1), features(0), features(2))
    result.square().mean().backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in network.parameters())
