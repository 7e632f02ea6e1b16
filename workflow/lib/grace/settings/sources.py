"""Config files and `--config`, checked before what Snakemake made of them is used.

Snakemake lets the last of two equal keys in a file win, takes an empty `--config` value for none,
and runs code that stands in a config file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel

from grace.errors import ConfigError
from grace.settings.config import Config
from grace.settings.yaml_reader import parse_argument, read_yaml

TEMPLATE = "__use_yte__"
"""The key with which a file asks Snakemake to run the code in it."""
_MAY_BE_NULL = {
    key for key, field in Config.model_fields.items() if type(None) in get_args(field.annotation)
}
_SECTIONS = {
    key
    for key, field in Config.model_fields.items()
    if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
}
MAX_VALUE = 100_000
"""Characters of one value."""


def check_files(paths: Iterable[Path]) -> None:
    """Raise `ConfigError` for a file that holds more than plain settings, if it is there."""
    for path in paths:
        try:
            values = read_yaml(path)
        except FileNotFoundError:
            continue
        if not isinstance(values, Mapping):
            raise ConfigError(f"{path}: must hold keys with values, such as `limit: 24`.")
        if TEMPLATE in values:
            raise ConfigError(
                f"{path}: `{TEMPLATE}` would run code that the file holds. Write plain values."
            )
        _refuse_no_values(values, str(path))


def check_entries(entries: Iterable[str]) -> None:
    """Raise `ConfigError` for a value that is empty or that no reader takes.

    Of entries for one key the last wins, as options of a command line do.
    """
    for entry in [entries] if isinstance(entries, str) else entries:
        key, _, value = entry.partition("=")
        source = f"--config {key}"
        if not value.strip():
            off = f", or write {key}=null for none" if key in _MAY_BE_NULL else ""
            raise ConfigError(
                f"{source}: `{key}` is empty: is it a shell variable that is not set? Leave"
                f" `{key}` out{off}."
            )
        if "\n" in value and not value.lstrip().startswith(("{", "[")):
            # YAML would make it a space.
            raise ConfigError(f"{source}: `{key}` holds a new line.")
        if len(value) > MAX_VALUE:
            raise ConfigError(f"{source}: a value of {len(value):,} characters.")
        _refuse_no_values({key: parse_argument(value, source)}, source)


def _refuse_no_values(values: Mapping[str, Any], source: str, place: tuple[str, ...] = ()) -> None:
    """Raise `ConfigError` for a key that is given `{}`, which Snakemake takes for "as before".

    A section of settings may be empty.
    """
    for key, value in values.items():
        full = (*place, key)
        if isinstance(value, Mapping) and value:
            _refuse_no_values(value, source, full)
        elif isinstance(value, Mapping) and (place or key not in _SECTIONS):
            raise ConfigError(
                f"{source}: `{'.'.join(full)}` is {{}}, which sets nothing. Give it a value, or"
                " leave it out."
            )
