"""Failures a person can act on.

The message of a `VirnucError` is one sentence that names the thing at fault (file, record,
setting) and the remedy. The CLI prints it and exits 1; Dagster shows it as the failure's
description. Any other exception is a bug of ours and keeps its traceback.
"""


class VirnucError(Exception):
    """Base of every failure that is explained to the person instead of traced."""


class InputError(VirnucError):
    """A sequence file that cannot be used as it is."""


class WeightsError(VirnucError):
    """Model weights or a head that are missing, of the wrong shape, or unsafe to read."""


class StoreError(VirnucError):
    """A file of ours that is missing, foreign, damaged or cannot be written."""


class BackendError(VirnucError):
    """A device, data type or attention backend that was asked for and cannot serve."""


class RunnerError(VirnucError):
    """An embedding run that could not be completed."""


class SettingsError(VirnucError):
    """A setting whose value cannot be used."""


class SequenceError(VirnucError):
    """A sequence that cannot be embedded."""

    def __init__(self, row: int, why: str, where: str = "the sequences given") -> None:
        super().__init__(f"{where}: row {row} cannot be embedded: {why}; leave the sequence out")
        self.row = row
        self.why = why
