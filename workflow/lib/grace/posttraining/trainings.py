"""A training, run in the environment of its own (`.venv-train`), and its adapter brought home.

It works in a folder of `journal_dir` that is named by what is trained on what. So a training that
was killed goes on from its last checkpoint, whatever became of the results; and where a job before
it has made the same data anew, the trainer finds its adapter there, sees that code and versions are
the same, too, and trains nothing.
"""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grace.contents import Contents
from grace.digests import digest, file_digest
from grace.engines.opening import runtime_of
from grace.errors import ConfigError, EngineError, RecordError
from grace.models import adapter_base, adapters
from grace.models.adapter_record import CONFIG, RECORD, WEIGHTS
from grace.models.identity import ModelIdentity
from grace.places import located
from grace.posttraining.spending import Spending
from grace.results.records import write_json
from grace.runs.leftovers import replaced
from grace.serving.lease import evict_idle
from grace.serving.state_dir import host_dir, state_dirs
from grace.settings.config import ModelEntry
from grace.settings.training_configs import TrainStep

logger = logging.getLogger(__name__)

#: What a training leaves, in this order; the record comes last, so that a folder without it is not
#: whole.
FILES = ("training_curve.csv", "training.json", CONFIG, WEIGHTS, RECORD)
#: Where the image of pods has its environment of trainings.
IMAGE_ENVIRONMENT = "GRACE_TRAIN_ENVIRONMENT"
#: The folder of trainings, in `journal_dir`.
STATE = "training"
#: What a training says that finds itself done, and one that goes on where it was ended.
FOUND, RESUMED = "holds this adapter already", "going on after"
#: Lines of a failed training that a message shows.
_SHOWN = 12


@dataclass(frozen=True)
class Training:
    """One training: the checkpoint's key, its data, and the folder of the adapter before it.

    `settings` are the rules' (folders, entry, environment).
    """

    key: str
    config: TrainStep
    data: Path
    parent: Path | None
    settings: Mapping[str, Any]

    def run(self, folder: Path) -> dict[str, Any]:
        """Train, and put the adapter into `folder`; facts for its record. Raises `GraceError`."""
        runtime = runtime_of(dict(self.settings))
        entry = ModelEntry.model_validate(self.settings["entry"])
        base = entry.model_copy(update={"adapter": None, "trained": None})
        model = ModelIdentity(base, (), runtime.root, runtime.contents).model
        told = {
            "stage": self.config.stage,
            "hyperparameters": self.config.hyperparameters,
            "seed": self.config.seed,
            "base": model,
            "dtype": entry.dtype,
            "data": file_digest(self.data),
            "parent": file_digest(self.parent / WEIGHTS) if self.parent else None,
        }
        state = runtime.journal_dir / STATE / digest(told)[:32]
        work = state / "adapter"
        with Spending(self.settings) as spending:
            spending.begin()
            # A server that is idle since the last step would keep the GPU's memory.
            evict_idle(state_dirs(host_dir(runtime.journal_dir)), self.key)
            said = self._train(base, model.get("commit"), runtime.root, state, work)
            if any(FOUND in line for line in said):
                spending.found_done()
            elif any(RESUMED in line for line in said):
                spending.asked(0.0)
        self._check(work, base, model.get("commit"), runtime.root, runtime.contents)
        for name in FILES:
            with replaced(folder / name) as partial:
                shutil.copyfile(work / name, partial)
        return {"engine": {"training": {**told, "files": _digests(folder)}}}

    def _train(
        self, base: ModelEntry, commit: str | None, root: Path, state: Path, work: Path
    ) -> list[str]:
        """Run it; what it said of where it began."""
        python = located(self.settings["environment"], root) / "bin" / "python"
        of_image = os.environ.get(IMAGE_ENVIRONMENT)
        if of_image and not python.exists():
            python = Path(of_image) / "bin" / "python"
        if not python.exists():
            raise EngineError(
                f"{self.key}: there is no environment for training, {python.parents[1]}. Set it up"
                " with `make train-env`, or name another in `training.environment`."
            )
        state.mkdir(parents=True, exist_ok=True)
        recipe = state / "recipe.json"
        write_json(recipe, self.config.hyperparameters)
        command = [
            str(python), "-m", "grace.training",
            "--kind", self.config.stage,
            # By its name, which the adapter's record holds; from here, where it is below.
            "--base", base.name if Path(base.name).is_dir() else str(self._place(base, root)),
            *(("--base-revision", commit) if commit else ()),
            "--parent", str(self.parent.absolute()) if self.parent else "none",
            "--data", str(self.data.absolute()),
            "--recipe-json", str(recipe.absolute()),
            "--seed", str(self.config.seed),
            "--output", str(work.absolute()),
            "--state", str((state / "checkpoints").absolute()),
            "--journal-dir", str(state.parent.parent.absolute()),
        ]  # fmt: skip
        logger.info("%s: %s", self.key, " ".join(command[1:]))
        environment = {**os.environ, "PYTHONPATH": str(root / "workflow" / "lib")}
        last: list[str] = []
        found: list[str] = []
        with subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
        ) as process:  # fmt: skip
            assert process.stdout is not None
            for line in process.stdout:
                logger.info("%s: %s", self.key, line.rstrip())
                last = [*last, line.rstrip()][-_SHOWN:]
                if FOUND in line or RESUMED in line:
                    found.append(line)
        if process.returncode != 0:
            raise EngineError(
                f"{self.key}: the training ended with status {process.returncode}; what it has done"
                f" is kept in {state}, and the same command goes on. Its last lines:\n"
                + "\n".join(last)
            )
        return found

    @staticmethod
    def _place(base: ModelEntry, root: Path) -> str | Path:
        """A base that does not lie below the current folder: its folder, or its id on the hub."""
        folder = located(base.name, root)
        return folder.absolute() if folder.is_dir() else base.name

    def _check(
        self, work: Path, base: ModelEntry, commit: str | None, root: Path, contents: Contents
    ) -> None:
        """Raise `GraceError` where what it left is no adapter of this base, or is not whole."""
        if missing := [name for name in FILES if not (work / name).is_file()]:
            raise EngineError(f"{self.key}: the training left no {', '.join(missing)} in {work}.")
        where = f"{self.key}: {work}"
        found = adapters.read(work, where)
        if found.record is None:
            raise RecordError(f"{where}: {RECORD} does not say on which base it was trained.")
        if found.rank != self.config.hyperparameters["rank"]:
            raise ConfigError(f"{where}: has rank {found.rank}, not that of the recipe.")
        parent = file_digest(self.parent / WEIGHTS) if self.parent else None
        if found.record.parent != parent:
            raise ConfigError(f"{where}: says that it was trained on another adapter than it was.")
        folder = located(base.name, root)
        weights = adapter_base.weight_digests(folder, contents) if folder.is_dir() else {}
        adapter_base.check_base(found, base, commit, weights, where, root)


def _digests(folder: Path) -> dict[str, str]:
    return {name: file_digest(folder / name) for name in FILES}
