"""Which model reads raw answers, and whether it can be asked."""

from __future__ import annotations

from collections.abc import Mapping

from grace.errors import ConfigError
from grace.settings.config import ExtractionConfig, ModelEntry
from grace.settings.explain import nearest


def resolved(config: ExtractionConfig, models: Mapping[str, ModelEntry]) -> ExtractionConfig:
    """The settings with all that an entry stands for in place, if one is named.

    That is `entry`, or `model` where no `base_url` is set beside it. Of an endpoint, URL, name and
    key are taken over, and `entry` is None then; any other stays in `entry`, and is a model that
    jobs of the run load. Raises `ConfigError` where there is no such entry, or it cannot read.
    """
    if not config.asks_model:
        return config
    key = config.entry
    if key is None and config.model in models and "base_url" not in config.model_fields_set:
        key = config.model
    if key is None:
        return config
    entry = models.get(key)
    if entry is None:
        raise ConfigError(
            f"config: unknown model '{key}' in `extraction.entry`."
            f"{nearest(key, models)} config/models.yaml holds:"
            f" {', '.join(sorted(models))}."
        )
    if entry.engine_spec.is_remote and entry.base_url is not None:
        return config.model_copy(
            update={
                "base_url": entry.base_url,
                "model": entry.name,
                "api_key_env": entry.api_key_env,
                "entry": None,
                "price": config.price or (entry.about and entry.about.price),
            }
        )
    _check_reads(key, entry, config)
    return config.model_copy(update={"model": entry.name, "api_key_env": None, "entry": key})


def _check_reads(key: str, entry: ModelEntry, config: ExtractionConfig) -> None:
    """Raise `ConfigError` for a model of the run's own that cannot be asked to read."""
    where = f"config: `extraction` names '{key}' of models.yaml,"
    if entry.prompting == "completion":
        raise ConfigError(
            f"{where} a base model (`prompting: completion`), which continues texts and follows no"
            " instructions. Name one that chats."
        )
    if config.body:
        raise ConfigError(
            f"{where} which the run loads itself, but `extraction.body` is for requests to an API."
            " Take it out."
        )
    if config.price is not None:
        raise ConfigError(
            f"{where} which the run loads itself, but `extraction.price` is what an API charges for"
            " tokens. Take it out; hours of GPUs have `price_per_hour` in config/clusters.yaml."
        )
    if config.reply_format == "json_object" or (
        config.reply_format == "json_schema" and not entry.engine_spec.holds_to_schema
    ):
        raise ConfigError(
            f"{where} whose engine {entry.engine} cannot hold replies to"
            f" `extraction.reply_format: {config.reply_format}`. Set `auto`, which holds them to"
            " the schema where the engine can, or `text`."
        )


def check_key(config: ExtractionConfig, environment: Mapping[str, str]) -> None:
    """Raise `ConfigError` where the key of an API that is to be asked is not set."""
    variable = config.api_key_env
    if not config.asks_api or variable is None or environment.get(variable, "").strip():
        return
    raise ConfigError(
        f"config: `extraction.method` is {config.method}, and {config.base_url} reads its key from"
        f" the environment variable {variable}, which is not set. Set it: export {variable}=...;"
        " for a server without a key: `extraction.api_key_env: null`; without any:"
        " `extraction.method: rules`."
    )
