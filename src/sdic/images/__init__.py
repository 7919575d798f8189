"""Pictures in and out: files to upright sRGB pixels, pixels to files, pixels to tensors."""

from sdic.images.files import list_images
from sdic.images.metadata import Strip
from sdic.images.photo import Photo, Pixels
from sdic.images.reading import DEFAULT_MAX_PIXELS, read
from sdic.images.tensors import (
    resize_antialiased,
    resize_area,
    resize_bilinear,
    to_tensor,
    to_uint8,
)
from sdic.images.writing import DEFAULT_QUALITY, write

__all__ = [
    "DEFAULT_MAX_PIXELS",
    "DEFAULT_QUALITY",
    "Photo",
    "Pixels",
    "Strip",
    "list_images",
    "read",
    "resize_antialiased",
    "resize_area",
    "resize_bilinear",
    "to_tensor",
    "to_uint8",
    "write",
]
