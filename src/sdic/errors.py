"""Errors that a user may meet. Each message says what happened, what was expected, what to do."""


class SdicError(Exception):
    """Base of every error that is shown to the user as one sentence, without a traceback."""


class InputError(SdicError):
    """A file, folder or value given by the user cannot be used."""


class NoFaceError(InputError):
    """No face, or not the face asked for, was found in a photo."""


class WeightsError(SdicError):
    """A weight file cannot be fetched, verified, read or converted."""


class TrainingError(SdicError):
    """A training run cannot go on: bad recipe, foreign checkpoint, or a loss that is not finite."""
