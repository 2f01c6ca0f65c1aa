"""The Dagster instance that `DAGSTER_HOME` names, opened from anywhere."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from virnuc_assets.errors import SettingsError, one_line

if TYPE_CHECKING:
    from dagster import DagsterInstance


@contextmanager
def open_instance() -> Iterator[DagsterInstance]:
    """Open the instance; inside, the working folder is the instance's own.

    The paths in `dagster.yaml` are relative to its folder: from any other, another, empty
    instance would be opened without a word.

    Raises:
        SettingsError: `DAGSTER_HOME` is not set, or there is no usable instance in it.
    """
    home = os.environ.get("DAGSTER_HOME")
    if not home:
        raise SettingsError(
            "DAGSTER_HOME is not set, so there is no platform to work with; set it to the folder "
            "of dagster.yaml, or use `virnuc predict`, which does without"
        )
    if not Path(home).is_absolute() or not Path(home, "dagster.yaml").is_file():
        raise SettingsError(
            f"DAGSTER_HOME={home}: is not the full path of a folder with a dagster.yaml; set it "
            "to the folder of this project's dagster.yaml"
        )
    from dagster import DagsterInstance

    with chdir(home):
        try:
            instance = DagsterInstance.get()
        except Exception as error:  # a storage may raise whatever its database does
            raise SettingsError(
                f"DAGSTER_HOME={home}: its Dagster instance cannot be opened ({_reason(error)}); "
                "correct dagster.yaml, or start the database that it names"
            ) from error
        with instance:
            yield instance


def _reason(error: BaseException) -> str:
    """What went wrong at first, in a line."""
    from dagster import DagsterInvalidConfigError

    while error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, DagsterInvalidConfigError):
        text = "; ".join(found.message.partition("Stack Trace:")[0] for found in error.errors)
    else:
        text = next(iter(str(error).strip().splitlines()), type(error).__name__)
    return one_line(text)
