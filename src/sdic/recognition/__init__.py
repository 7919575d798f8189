"""Recognition networks that judge faces: who, how old, which expression, which pose."""

from sdic.recognition.base import Recogniser
from sdic.recognition.identity import create, list_recognisers

__all__ = ["Recogniser", "create", "list_recognisers"]
