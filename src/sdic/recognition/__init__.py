"""Recognition networks that judge faces: who, how old, which expression, which pose.

    recogniser = sdic.recognition.create("fr-feature")      # images to unit embeddings
    scorer = sdic.recognition.create_scorer("yaw")          # images to degrees

All are pretrained and frozen, take FFHQ-aligned images [N,3,256,256] in [-1,1], and pass gradients
to the images. `matte` and `mesh` take other sizes, too, and `regions` makes maps of them: face,
mouth, eyes, hair, clothes, background.
"""

from sdic.recognition.attributes import (
    Attribute,
    AttributeScorer,
    create_scorer,
    create_scorers,
    get_attribute,
    list_attributes,
)
from sdic.recognition.base import Network, Recogniser
from sdic.recognition.identity import create, list_recognisers

__all__ = [
    "Attribute",
    "AttributeScorer",
    "Network",
    "Recogniser",
    "create",
    "create_scorer",
    "create_scorers",
    "get_attribute",
    "list_attributes",
    "list_recognisers",
]
