"""One training from its arguments to the adapter's folder. TRL is imported once all is checked."""

from __future__ import annotations

import argparse
import importlib
import logging
import platform
import sys
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from grace.contents import Contents
from grace.digests import digest
from grace.errors import GraceError, RecordError, TrainingError
from grace.foreign_text import for_log
from grace.models import hub
from grace.models.adapter_base import weight_digests
from grace.models.adapter_record import RECORD, Trained
from grace.models.adapters import Adapter, files_of
from grace.models.files import check_is_model, check_weights, lacks_shards
from grace.places import located
from grace.results.records import read_json
from grace.runs.leftovers import scratch_folder
from grace.source_code import source_digest
from grace.training import loading
from grace.training.base_shape import BaseShape, base_shape
from grace.training.checkpoints import Checkpoints
from grace.training.curve import Curve
from grace.training.memory import GIB, MemoryPlan, memory_plan
from grace.training.rows import TrainingRows, read_rows
from grace.training.settings import (
    NEW_ALPHA,
    NEW_RANK,
    DpoSettings,
    Kind,
    SftSettings,
    read_settings,
)
from grace.training.written import CURVE, FACTS, read_parent, write_adapter_folder

NONE = "none"
#: Settings that change no number of the adapter.
_NO_EFFECT = {"checkpoint_every"}
#: What of the environment can change a number.
_PACKAGES = ("torch", "transformers", "trl", "peft", "accelerate", "datasets", "bitsandbytes")


@dataclass(frozen=True)
class Base:
    """The base: its name as records give it, where its files are, their digests, its shape."""

    name: str
    folder: Path
    commit: str | None
    weights: Mapping[str, str]
    shape: BaseShape


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    made = argparse.ArgumentParser(
        prog="python -m grace.training",
        description="Train a LoRA adapter on rows of token ids (docs/training_modules.md).",
    )
    made.add_argument("--kind", required=True, choices=("sft", "dpo"))
    made.add_argument("--base", required=True, help="the base's folder, or its id on the hub")
    made.add_argument(
        "--base-revision", default=NONE, help="commit of a base on the hub, which is in the cache"
    )
    made.add_argument(
        "--parent", default=NONE, help="folder of the adapter to begin with, or 'none'"
    )
    made.add_argument("--data", required=True, type=Path, help="the rows, a Parquet file")
    made.add_argument(
        "--recipe-json", required=True, type=Path, help="the recipe's part for this kind"
    )
    made.add_argument("--seed", required=True, type=_seed)
    made.add_argument("--output", required=True, type=Path, help="folder for the adapter")
    made.add_argument(
        "--state", type=Path, help="folder for checkpoints; by default one beside --output"
    )
    made.add_argument(
        "--journal-dir", type=Path, default=Path(".grace"),
        help="folder in which digests of large files are remembered",
    )  # fmt: skip
    made.add_argument(
        "--threads", type=_threads, default=1, help="of a CPU; others round differently"
    )
    made.add_argument(
        "--memory-gib", type=float, help="memory to plan with; by default what there is"
    )
    made.add_argument(
        "--plan", action="store_true", help="check everything, show the plan, train nothing"
    )
    return made


def main(arguments: list[str] | None = None) -> int:
    """Train; 1 where that is not possible, 130 where it was interrupted."""
    given = parser().parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it has slower ways on a CPU
    try:
        return run(given)
    except GraceError as error:
        print(for_log(str(error)), file=sys.stderr)
        return 1
    except OSError as error:
        what = f"{error.filename or 'a file'}: {error.strerror or error}"
        print(for_log(f"{what}. Mend that and run the same command again: the last checkpoint is"
                      " kept."), file=sys.stderr)  # fmt: skip
        return 1
    except KeyboardInterrupt:
        print("interrupted; run the same command again to go on", file=sys.stderr)
        return 130


def run(given: argparse.Namespace) -> int:
    """Check everything, then train and write the adapter. Raises `GraceError`."""
    kind: Kind = given.kind
    settings = read_settings(kind, given.recipe_json)
    shape_of = find_base(given.base, given.base_revision)
    base = Base(
        *shape_of,
        weights=weight_digests(shape_of[1], Contents(given.journal_dir)),
        shape=base_shape(shape_of[1]),
    )
    check_context(settings, base)
    rows = read_rows(
        kind, given.data, vocabulary=base.shape.vocabulary, max_length=settings.max_length
    )
    folder = None if given.parent.lower() == NONE else Path(given.parent)
    parent = None if folder is None else read_parent(folder, base.weights, given.base)
    rank, alpha = rank_and_alpha(settings, parent)
    device = loading.device()
    memory = given.memory_gib * GIB if given.memory_gib else loading.memory_of(device)
    plan = memory_plan(
        base.shape, kind, method=settings.method, rank=rank, length=rows.longest,
        batch=settings.batch, memory=memory, micro_batch=settings.micro_batch,
        number_bytes=loading.number_bytes(device),
    )  # fmt: skip
    _say(f"{kind} of {base.name}: {len(rows):,} rows, {rows.trained:,} ids with loss")
    _say("\n".join(plan.arithmetic))
    if given.plan:
        return 0
    recipe = digest({k: v for k, v in settings.model_dump().items() if k not in _NO_EFFECT})
    trained = Trained(
        kind=kind, method="qlora" if plan.method == "qlora" else "lora", data=rows.digest,
        recipe=recipe, seed=given.seed,
    )  # fmt: skip
    identity = {
        "base": dict(base.weights),
        "parent": files_of(parent.folder, Contents()) if parent else None,
        "trained": trained.model_dump(),
        "rank": rank,
        "alpha": alpha,
        "micro_batch": plan.micro_batch,
        "device": device,
        "threads": given.threads,
        "machine": platform.machine(),
        "versions": {name: _version(name) for name in _PACKAGES},
        "code": {
            one.stem: source_digest(one) for one in sorted(Path(__file__).parent.glob("*.py"))
        },
    }
    state = given.state or given.output.parent / f".{given.output.name}.training"
    checkpoints = Checkpoints(state, identity)
    with checkpoints.held():
        if _is_there(given.output, identity):
            _say(f"{given.output} holds this adapter already")
            checkpoints.clear()  # of a process that was killed before it did
            return 0
        _train(
            given, settings, base, rows, parent, (rank, alpha), plan, checkpoints, trained, identity
        )
        checkpoints.clear()
    return 0


def find_base(name: str, revision: str) -> tuple[str, Path, str | None]:
    """The base's name, folder and commit on the hub. Raises `GraceError` where it is not whole."""
    folder = located(name, Path())
    commit = None
    if not folder.is_dir():
        wanted = None if revision.lower() == NONE else revision
        cached = hub.snapshot(name, wanted)
        if cached is None or lacks_shards(cached):
            raise TrainingError(
                f"--base {name}: no such folder, and not whole in this machine's cache of the hub"
                f"{f' at {wanted}' if wanted else ''}. Run `snakemake prefetch` with a model of"
                " that `name`."
            )
        folder, commit = cached, cached.name
    elif folder.absolute().is_relative_to(Path.cwd()):
        # As the project names it: no record holds a place of this machine.
        name = folder.absolute().relative_to(Path.cwd()).as_posix()
    where = f"--base {name}"
    check_is_model(folder, where)
    check_weights(folder, where)
    return name, folder, commit


def check_context(settings: SftSettings | DpoSettings, base: Base) -> None:
    """Raise `TrainingError` where rows may be longer than the base can read."""
    context = base.shape.context
    if context is not None and settings.max_length > context:
        raise TrainingError(
            f"`max_length` is {settings.max_length:,}, but {base.name} reads at most {context:,}"
            " ids (`max_position_embeddings` of its config.json). Lower it."
        )


def rank_and_alpha(
    settings: SftSettings | DpoSettings, parent: Adapter | None
) -> tuple[int, float]:
    """Those of the adapter that is trained. Raises `TrainingError` where the parent has others."""
    if parent is None:
        return settings.rank or NEW_RANK, settings.alpha or NEW_ALPHA
    for name, said, has in (
        ("rank", settings.rank, parent.rank), ("alpha", settings.alpha, parent.alpha)
    ):  # fmt: skip
        if said is not None and said != has:
            raise TrainingError(
                f"`{name}` is {said:g}, but the adapter in {parent.folder}, which is trained on,"
                f" has {has:g}: it cannot change. Write {has:g}, or train from the base (--parent"
                " none)."
            )
    return parent.rank, parent.alpha


def _train(
    given: argparse.Namespace, settings: SftSettings | DpoSettings, base: Base,
    rows: TrainingRows, parent: Adapter | None, size: tuple[int, float], plan: MemoryPlan,
    checkpoints: Checkpoints, trained: Trained, identity: Mapping[str, Any],
) -> None:  # fmt: skip
    module, watching = _modules(given.kind)
    import torch
    import transformers

    transformers.utils.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    warnings.filterwarnings("ignore", module="torch|transformers|trl|peft")
    device = str(identity["device"])
    if torch.cuda.device_count() > 1:
        raise TrainingError(
            f"this process sees {torch.cuda.device_count()} GPUs, but a training uses one. Show it"
            " one: CUDA_VISIBLE_DEVICES=0."
        )
    torch.set_num_threads(given.threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    transformers.set_seed(given.seed)
    model = loading.load_base(base.folder, plan.method, device)
    torch.manual_seed(given.seed)  # loading may draw
    if parent is None:
        model = loading.with_new_adapter(model, base.shape, *size)
    else:
        model = loading.with_parent(model, parent.folder, base.shape)
    task = watching.Task(settings, rows, plan, given.seed, device, checkpoints.folder)
    curve = Curve(checkpoints.folder / CURVE, given.kind)
    trainer = module.trainer(task, model, watching.Watcher(curve, checkpoints))
    trainer.remove_callback(transformers.PrinterCallback)
    newest = checkpoints.newest()
    if newest is not None:
        _say(f"going on after {newest.name}")
    try:
        trainer.train(resume_from_checkpoint=str(newest) if newest else None)
    except torch.OutOfMemoryError as error:
        arithmetic = "\n  ".join(plan.arithmetic)
        raise TrainingError(
            f"the GPU's memory ended, though the arithmetic let it fit:\n  {arithmetic}\nDoes"
            " anything else use this GPU? Else lower `micro_batch`, or set `method: qlora`. The"
            " last checkpoint is kept."
        ) from error
    with scratch_folder() as saved:
        model.save_pretrained(
            saved, selected_adapters=[loading.ADAPTER], save_embedding_layers=False
        )
        facts = {
            "identity": dict(identity),
            "settings": settings.model_dump(),
            "plan": {**asdict(plan), "arithmetic": list(plan.arithmetic)},
            "rows": len(rows),
            "trained_ids": rows.trained,
            "steps": trainer.state.global_step,
            "seconds": round(curve.seconds, 3),
        }
        write_adapter_folder(
            saved, given.output, base=base.name, commit=base.commit, weights=base.weights,
            parent=parent.folder if parent else None, trained=trained,
            history=trainer.state.log_history, facts=facts, base_folder=base.folder,
        )  # fmt: skip
    _say(f"wrote {given.output}: {trainer.state.global_step} steps, {curve.seconds:.0f} s")


def _modules(kind: Kind) -> tuple[Any, Any]:
    """The module of a kind and what both share. Raises `TrainingError` in another environment."""
    try:
        return (
            importlib.import_module(f"grace.training.{kind}"),
            importlib.import_module("grace.training.watching"),
        )
    except ModuleNotFoundError as error:
        raise TrainingError(
            f"{sys.executable} has no package '{error.name}'. Trainings have an environment of"
            " their own: `make train-env`, then .venv-train/bin/python -m grace.training …"
        ) from None


def _is_there(folder: Path, identity: Mapping[str, Any]) -> bool:
    """Whether a folder holds the adapter of just this training, whole."""
    if not (folder / RECORD).is_file():
        return False
    try:
        facts = read_json(folder / FACTS)
        found = files_of(folder, Contents())
        return bool(facts["identity"] == dict(identity)) and all(
            found.get(name) == told for name, told in facts["files"].items()
        )
    except (OSError, RecordError, KeyError, TypeError, AttributeError):
        return False


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _seed(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) < 2**32):
        raise argparse.ArgumentTypeError(f"{text!a} is no whole number from 0 to {2**32 - 1}")
    return int(text)


def _threads(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 1024):
        raise argparse.ArgumentTypeError(f"{text!a} is no whole number from 1 to 1024")
    return int(text)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
