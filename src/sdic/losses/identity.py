"""Identity loss: one minus the cosine between two images' embeddings (SDIC, eq. 7)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn
from torch.nn import functional as nnf

from sdic.domains import FACES
from sdic.encoders.irse import IRSE50
from sdic.encoders.layers import resize_area
from sdic.errors import InputError
from sdic.weights.checkpoints import load_strict, read_checkpoint

FACE_ROWS, FACE_COLUMNS = (slice(*ends) for ends in FACES.identity_crop)
ARCFACE_SIZE = 112
ARCFACE_DIM = 512


class IdentityLoss(nn.Module):
    """L_ID = 1 - <E(x), E(y)> for a frozen embedding network E; faces or any other domain.

    Args:
        recogniser: images [N,3,256,256] in [-1,1] -> unit embeddings [N,D].
    """

    def __init__(self, recogniser: nn.Module) -> None:
        super().__init__()
        self.recogniser = recogniser.eval().requires_grad_(False)

    def embed(self, images: Tensor) -> Tensor:
        """Unit embeddings [N,D] in fp32; those of a target can be kept."""
        embeddings: Tensor = self.recogniser(images)
        return embeddings.float()

    def distance(self, embeddings: Tensor, others: Tensor) -> Tensor:
        """1 - cosine [N], in [0,2], of unit embeddings [N,D]."""
        return 1 - (embeddings * others).sum(dim=1)

    def forward(self, images: Tensor, others: Tensor) -> Tensor:
        """1 - cosine [N] of images [N,3,256,256] in [-1,1]; differentiable in both."""
        return self.distance(self.embed(images), self.embed(others))


class ArcFace(nn.Module):
    """ArcFace on IR-SE50 (Deng et al. 2019), with the crop of the e4e family around it.

    The keys of the state dict are those of the published `model_ir_se50.pth`.
    """

    def __init__(self) -> None:
        super().__init__()
        trunk = IRSE50()
        self.input_layer, self.body = trunk.input_layer, trunk.body
        self.output_layer = nn.Sequential(
            nn.BatchNorm2d(ARCFACE_DIM),
            nn.Identity(),  # the dropout of its training
            nn.Flatten(),
            nn.Linear(ARCFACE_DIM * 7 * 7, ARCFACE_DIM),
            nn.BatchNorm1d(ARCFACE_DIM),
        )
        self.eval()
        self.requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        """Images [N,3,256,256] in [-1,1], FFHQ-aligned, to unit embeddings [N,512]."""
        if images.shape[1:] != (3, 256, 256):
            raise InputError(
                f"ArcFace got images of shape {list(images.shape)}; expected [N,3,256,256]."
            )
        faces = resize_area(images[:, :, FACE_ROWS, FACE_COLUMNS], ARCFACE_SIZE)
        return nnf.normalize(self.output_layer(self.body(self.input_layer(faces))).float())


def load_arcface(path: Path) -> ArcFace:
    """ArcFace from the user's `model_ir_se50.pth`, frozen, on the CPU.

    Raises:
        InputError: there is no such file.
        WeightsError: the file cannot be read, or holds another network.
    """
    network = ArcFace()
    load_strict(network, counted(read_checkpoint(path), network), str(path))
    return network


def counted(tensors: Mapping[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """Tensors with the batch counters that files of old PyTorch versions lack."""
    counters = {
        name: value
        for name, value in network.state_dict().items()
        if name.endswith("num_batches_tracked")
    }
    return counters | dict(tensors)
