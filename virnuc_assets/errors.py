"""Failures a person can act on.

The message of a `VirnucError` is one sentence that names the thing at fault (file, record,
setting) and the remedy. The CLI prints it and exits 1; Dagster shows it as the failure's
description. Any other exception is a bug of ours and keeps its traceback.
"""

from __future__ import annotations

from pathlib import Path


class VirnucError(Exception):
    """Base of every failure that is explained to the person instead of traced."""


class InputError(VirnucError):
    """A sequence file that cannot be used as it is."""


class WeightsError(VirnucError):
    """Model weights or a head that are missing, of the wrong shape, or unsafe to read."""


class StoreError(VirnucError):
    """A file of ours that is missing, foreign, damaged or cannot be written."""


class UnusableFileError(StoreError):
    """A file of embeddings that is damaged, or not the one that is wanted."""

    def __init__(self, path: Path, fault: str) -> None:
        super().__init__(f"{path}: {fault}; delete it and embed again")
        self.path = path
        self.fault = fault


class DiskFullError(StoreError):
    """A disk that does not hold what is to be written to `path`; `needed`, `free`: bytes.

    `machine`: of a cluster, the one that noticed. A quota shows only when it is reached, so what is
    `free` may be more than what is `needed`.
    """

    def __init__(
        self,
        path: Path,
        needed: int | None = None,
        free: int | None = None,
        machine: str | None = None,
    ) -> None:
        fault = "the disk, or the quota on it, is full"
        if machine is not None:
            fault += f" (noticed on {machine})"
        if needed is not None:
            fault += f": {as_size(needed)} are still needed"
        if free is not None:
            fault += f" and {as_size(free)} are free"
        super().__init__(
            f"{path}: {fault}; free some space or choose another folder, and start again: what is "
            "finished is kept"
        )
        self.path = path
        self.needed = needed
        self.free = free
        self.machine = machine


def one_line(report: object) -> str:
    """What an error says, without line breaks; the error's name if it says nothing."""
    return " ".join(str(report).split()) or type(report).__name__


def as_size(count: int) -> str:
    """A number of bytes as a person reads it, in powers of 1000."""
    size, unit = float(count), "bytes"
    for larger in ("kB", "MB", "GB", "TB"):
        if size < 1000:
            break
        size, unit = size / 1000, larger
    return f"{count} bytes" if unit == "bytes" else f"{size:.1f} {unit}"


class BackendError(VirnucError):
    """A device, data type or attention backend that was asked for and cannot serve."""


class RunnerError(VirnucError):
    """An embedding run that could not be completed."""


class EncoderUnusableError(RunnerError):
    """An encoder that no device could load; any other job with it would end the same way."""


class SettingsError(VirnucError):
    """A setting whose value cannot be used."""


class SequenceError(VirnucError):
    """A sequence that cannot be embedded."""

    def __init__(self, row: int, why: str, where: str = "the sequences given") -> None:
        super().__init__(f"{where}: row {row} cannot be embedded: {why}; leave the sequence out")
        self.row = row
        self.why = why


class DeviceMemoryError(VirnucError):
    """A device whose memory did not hold one pack of `token_budget` slots beside the model."""

    def __init__(self, device: str, token_budget: int) -> None:
        super().__init__(
            f"{device}: ran out of memory at a token budget of {token_budget}; set a smaller token "
            "budget (VIRNUC_TOKEN_BUDGET), or end what else uses the device"
        )
        self.device = device
        self.token_budget = token_budget


class DeviceTakenError(VirnucError):
    """A device that another run is using."""
