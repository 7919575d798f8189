"""How the compensation of a face is carried over to its edit.

A transfer takes F* and F(w) of the face as it is, and F(edited w), and gives F* of the edited face:
three maps [N,C,H,W] to one. Where F(edited w) equals F(w) it gives back F*. `Addition` is the
paper's rule, `compact_transfer` a trained network. `released` may follow on either.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as nnf

# Where the face is in an aligned photo: centre and radii (x, y), and how soft its rim is.
CENTRE, RADII, SOFTNESS = (0.5, 0.56), (0.3, 0.36), 0.15
NEIGHBOURHOOD = 5  # cells of F on each side over which a change is averaged


def relative_change(base: Tensor, edited: Tensor) -> Tensor:
    """How much features [N,C,H,W] change at each place [N,1,H,W], averaged over a neighbourhood.

    1 is a change as large as the features are on average.
    """
    change = (edited - base).square().mean(dim=1, keepdim=True).sqrt()
    relative = change / base.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
    padded = nnf.pad(relative, (NEIGHBOURHOOD // 2,) * 4, mode="replicate")
    return nnf.avg_pool2d(padded, NEIGHBOURHOOD, stride=1)


class Addition(nn.Module):
    """Eq. 6: F*' = F* + F(edited w) - F(w)."""

    def forward(self, compensated: Tensor, base: Tensor, edited: Tensor) -> Tensor:
        """F*, F(w) and F(edited w) [N,C,H,W] to F* of the edited face."""
        return compensated + edited - base


def face_weights(height: int, width: int) -> Tensor:
    """[height,width]: 1 on the face of an aligned photo, 0 far from it, soft in between."""
    y, x = torch.meshgrid(
        (torch.arange(height) + 0.5) / height, (torch.arange(width) + 0.5) / width, indexing="ij"
    )
    across, along = (x - CENTRE[0]) / RADII[0], (y - CENTRE[1]) / RADII[1]
    return torch.sigmoid((1 - (across.square() + along.square()).sqrt()) / SOFTNESS)


def released(carried: Tensor, base: Tensor, edited: Tensor, release: float) -> Tensor:
    """Let go of what was carried over, on the face, where the edit changes much.

    Where an edit replaces what is there (an open mouth by a closed one), the compensation still
    holds the old mouth. So it gives way there, by as much as the features change:

        F*'' = F(edited w) + (1 - m) * (F*' - F(edited w)),   m = a (1 - exp(-(r / release)^2))

    with r the relative change of the features, and a = `face_weights`: hair and background are
    the photo's own, and what the generator has in their place is another's. No change gives back
    F*'.

    Args:
        carried: F*' [N,C,H,W], what a transfer gave.
        base: F(w).
        edited: F(edited w).
        release: the relative change, above 0, at which what was carried over counts 1/e.
    """
    kept = torch.exp(-(relative_change(base, edited) / release).square())
    gone = face_weights(*base.shape[-2:]).to(base) * (1 - kept)
    return edited + (1 - gone) * (carried - edited)
