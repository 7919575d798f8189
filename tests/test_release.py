import torch

from sdic.methods.release import released


def features(seed: int) -> torch.Tensor:
    return torch.randn(1, 6, 8, 8, generator=torch.Generator().manual_seed(seed))


def test_no_change_keeps_all_of_the_compensation() -> None:
    base, compensated = features(0), features(1)
    torch.testing.assert_close(released(compensated, base, base, 0.5), compensated)


def test_large_release_is_eq_6() -> None:
    base, compensated, edited = features(0), features(1), features(2)
    eq_6 = compensated + edited - base
    torch.testing.assert_close(released(compensated, base, edited, 1e6), eq_6)


def test_where_the_edit_changes_much_its_features_win() -> None:
    base, compensated = features(0), features(1)
    edited = base.clone()
    edited[:, :, :, 4:] += 100
    result = released(compensated, base, edited, 0.5)
    torch.testing.assert_close(result[..., 6:], edited[..., 6:])  # beyond the neighbourhood
    torch.testing.assert_close(result[..., :2], compensated[..., :2])


def test_change_of_release_keeps_a_share_of_1_over_e() -> None:
    base, compensated = torch.ones(1, 2, 4, 4), torch.full((1, 2, 4, 4), 3.0)
    result = released(compensated, base, base + 0.25, 0.25)
    expected = 1.25 + 2 * torch.exp(torch.tensor(-1.0))
    torch.testing.assert_close(result, expected.expand_as(result))
