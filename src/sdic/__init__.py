"""Edit a real photograph of a face and keep the person."""

__version__ = "0.1.0"
