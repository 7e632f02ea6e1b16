"""A run's Secret: what its pods need of the controller's environment, for as long as it lasts."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field

from grace.cluster.plan.pods import NO_MODEL, label_value
from grace.cluster.run.api import Api


@dataclass
class RunSecret:
    """The Secret `name`, made when the first pod needs it.

    `keys` are for pods that ask a model, those of `own_keys` for pods that ask this one, `reading`
    for those of tables, where a model at an API reads answers, `storage` is for all: values by the
    variable's name. `run` and `labels` find the run's objects.
    """

    api: Api
    name: str
    run: str
    labels: Mapping[str, str]
    keys: Mapping[str, str]
    storage: Mapping[str, str]
    reading: Mapping[str, str] = field(default_factory=dict)
    own_keys: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    _made: bool = field(default=False, init=False)

    def variables(self, rule: str, model: str | None = None) -> dict[str, tuple[str, str]]:
        """Name and key in the Secret of each variable that a pod of this rule or group gets."""
        asking = {*self.keys, *self.own_keys.get(model or "", ())}
        own = self.reading if rule == "tables" else () if rule in NO_MODEL else asking
        names = {*self.storage, *own}
        return {name: (self.name, name) for name in sorted(names)}

    def create(self) -> None:
        """Create it, if there is anything to hold; once. Raises `ApiError`."""
        values = self._values()
        if self._made or not values:
            return
        metadata = {
            "name": self.name,
            "namespace": self.api.namespace,
            "labels": {**self.labels, "grace/run": label_value(self.run)},
        }
        data = {key: base64.b64encode(one.encode()).decode() for key, one in values.items()}
        secret = {"apiVersion": "v1", "kind": "Secret", "type": "Opaque"}
        self.api.create_secret({**secret, "metadata": metadata, "data": data})
        self._made = True

    def delete(self) -> None:
        """Delete it, also one that a run of this name left which was killed. Raises `ApiError`."""
        if self._values():
            self.api.delete_secret(self.name)

    def _values(self) -> dict[str, str]:
        own = {name: one for keys in self.own_keys.values() for name, one in keys.items()}
        return {**self.keys, **own, **self.reading, **self.storage}
