"""How the compensation of a face is carried over to its edit.

F* - F(w) belongs to the unedited face; eq. 6 adds it to the edited one in its old place. A transfer
takes F* and F(w) of the face as it is, and F(edited w), and gives F* of the edited face: three maps
[N,C,H,W] to one. Where F(edited w) equals F(w) it gives back F*. `Addition` is the paper's rule,
`compact_transfer` a trained network. `released` may follow on either.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as nnf

from sdic.domains import FACES, Focus
from sdic.editing.direction import Direction, Edit

NEIGHBOURHOOD = 5  # cells of F on each side over which a change is averaged


class Addition(nn.Module):
    """Eq. 6: F*' = F* + F(edited w) - F(w)."""

    def forward(self, compensated: Tensor, base: Tensor, edited: Tensor) -> Tensor:
        """F*, F(w) and F(edited w) [N,C,H,W] to F* of the edited face."""
        return compensated + edited - base


@dataclass(frozen=True)
class CarryOver:
    """All that decides how a compensation is carried over to an edit.

    Attributes:
        transfer: see above.
        release: relative change of the features at which what was carried over gives way, see
            `released`; 0 is never.
        gains: directions with how much more strongly each is applied than asked for, to make up
            for what the compensation takes back of it.
    """

    transfer: nn.Module = field(default_factory=Addition)
    release: float = 0.0
    gains: tuple[tuple[Direction, float], ...] = ()

    def strengthened(self, edit: Edit) -> Edit:
        """The edit with the gains of its directions."""
        if not self.gains:
            return edit
        return Edit(tuple((one, self._gain(one) * amount) for one, amount in edit.steps))

    def carried(
        self, compensated: Tensor, base: Tensor, edited: Tensor, focus: Focus = FACES.focus
    ) -> Tensor:
        """F* of the edited face [N,C,H,W], of F*, F(w) and F(edited w)."""
        features: Tensor = self.transfer(compensated, base, edited)
        return released(features, base, edited, self.release, focus) if self.release else features

    @property
    def settings(self) -> tuple[object, ...]:
        """All of it as one comparable value, the weights of the transfer by their digest."""
        digest = hashlib.blake2b(digest_size=8)
        for name, value in self.transfer.state_dict().items():
            digest.update(name.encode() + value.detach().cpu().float().numpy().tobytes())
        gains = tuple((one.name, gain) for one, gain in self.gains)
        return type(self.transfer).__name__, digest.hexdigest(), self.release, gains

    def with_transfer(self, change: Callable[[nn.Module], nn.Module]) -> CarryOver:
        """The same with what `change` makes of the transfer."""
        return replace(self, transfer=change(self.transfer))

    def _gain(self, direction: Direction) -> float:
        return next((gain for known, gain in self.gains if known == direction), 1.0)


def relative_change(base: Tensor, edited: Tensor) -> Tensor:
    """How much features [N,C,H,W] change at each place [N,1,H,W], averaged over a neighbourhood.

    1 is a change as large as the features are on average.
    """
    change = (edited - base).square().mean(dim=1, keepdim=True).sqrt()
    relative = change / base.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
    padded = nnf.pad(relative, (NEIGHBOURHOOD // 2,) * 4, mode="replicate")
    return nnf.avg_pool2d(padded, NEIGHBOURHOOD, stride=1)


def released(
    carried: Tensor, base: Tensor, edited: Tensor, release: float, focus: Focus = FACES.focus
) -> Tensor:
    """Let go of what was carried over, on the face, where the edit changes much.

    Where an edit replaces what is there (an open mouth by a closed one), the compensation still
    holds the old mouth. So it gives way there, by as much as the features change:

        F*'' = F(edited w) + (1 - m) * (F*' - F(edited w)),   m = a (1 - exp(-(r / release)^2))

    with r the relative change of the features, and a the weights of the domain's focus: hair and
    background are the photo's own, and what the generator has in their place is another's. No
    change gives back F*'.

    Args:
        carried: F*' [N,C,H,W], what a transfer gave.
        base: F(w).
        edited: F(edited w).
        release: the relative change, above 0, at which what was carried over counts 1/e.
        focus: where the subject lies.
    """
    kept = torch.exp(-(relative_change(base, edited) / release).square())
    gone = focus.weights(*base.shape[-2:]).to(base) * (1 - kept)
    return edited + (1 - gone) * (carried - edited)
