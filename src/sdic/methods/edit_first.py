"""Edit, then compensate: the order that SDIC's paper argues against (figure 4c, "EC")."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from sdic.editing.direction import Edit
from sdic.errors import InputError
from sdic.methods.base import Inversion, Progress
from sdic.methods.sdic import SDIC


class EditFirstSDIC(SDIC):
    """SDIC whose edits come before the compensation; inversions are the same.

    The edited image of the generator takes the place of R_o, so the networks see the edit as an
    error and take part of it back. They compare it with the photo, which the inversion keeps.
    """

    def invert(self, images: Tensor, progress: Progress | None = None) -> Inversion:
        """See `SDIC.invert`; the inversion keeps the photo."""
        return replace(super().invert(images, progress), photo=images)

    @torch.no_grad()
    def synthesize(
        self, inversion: Inversion, edit: Edit | None = None, size: int | None = None
    ) -> Tensor:
        """Generate the inverted images [N,3,size,size], edited if asked for.

        Raises:
            InputError: the inversion does not keep its photo.
        """
        edited = None if edit is None else edit.apply(inversion.base_latents)
        if edited is None or torch.equal(edited, inversion.base_latents):
            return super().synthesize(inversion, None, size)
        if inversion.photo is None:
            raise InputError(
                "The inversion does not keep the photo that an edit before the compensation needs; "
                "invert the photo again with this method."
            )
        made = self.compensate(inversion.photo, edited)
        return self.generator.from_features(made.enhanced_features, made.enhanced_latents, size)
