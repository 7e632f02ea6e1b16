"""Which studies a run has: bundled ones by name, a user's own by folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from grace.errors import ConfigError
from grace.seeds import APART
from grace.settings.config import Config
from grace.settings.explain import nearest
from grace.studies.reading import FILE, read_study
from grace.studies.study import Study

#: Where the bundled studies lie in a project.
BUNDLED = "studies"
#: How files of people's answers begin, beside studies' own.
REFERENCE = "reference_"


def bundled_names(root: Path) -> list[str]:
    """Names of the studies that come with Grace, sorted."""
    return sorted(path.parent.name for path in (root / BUNDLED).glob(f"*/{FILE}"))


def load_studies(names: Sequence[str], root: Path, user_dir: Path) -> dict[str, Study]:
    """The studies of a config, by their names, in its order.

    A name without '/' is a bundled study's; anything else is a folder, relative to `user_dir`.
    `root` is where Grace itself lies. Raises `ConfigError`.
    """
    found: dict[str, Study] = {}
    folders: dict[str, Path] = {}
    for name in names:
        folder = study_folder(name, root, user_dir)
        own = "/" in name
        study = read_study(folder, name if own else f"{BUNDLED}/{name}", None if own else root)
        if own and study.name in bundled_names(root):
            raise ConfigError(
                f"config: `studies` names {name[:200]}, but {study.name} is the name of a study"
                " that comes with Grace. Tables and files carry the folder's name: rename the"
                f" folder, or write {study.name} for the bundled one."
            )
        if study.name in found:
            raise ConfigError(
                f"config: `studies` names {study.name} twice: {folders[study.name]} and {folder}."
                " Tables and files carry the folder's name, so two studies cannot share one:"
                " rename a folder, or leave one out."
            )
        found[study.name], folders[study.name] = study, folder
    return found


def check_run(studies: Mapping[str, Study], config: Config, root: Path) -> None:
    """Raise `ConfigError` where the studies of a config cannot be run with each other."""
    known = {*studies, *bundled_names(root)}
    for name in config.stimuli:
        if name not in known:
            raise ConfigError(
                f"config: `stimuli` names '{name[:60]}' (or {name[:60]}_csv does), but there is no"
                f" such study.{nearest(name, known)} Studies of this run: {', '.join(studies)}."
            )
    if named := [name for name in studies if name.startswith(REFERENCE)]:
        raise ConfigError(
            f"config: `studies` names {named[0]}, but files called {REFERENCE}<study> hold people's"
            " answers. Rename its folder."
        )
    taken: dict[int, str] = {}
    for name, study in studies.items():
        if not set(study.experiments) & set(config.experiments):
            raise ConfigError(
                f"config: `experiments` is {', '.join(config.experiments)}, but study '{name}' has"
                f" {' and '.join(study.experiments)} alone. Leave the study out, or ask the"
                " experiment."
            )
        for experiment in study.experiments:
            label, offset = f"{name}'s {experiment}", study.seed_offset(experiment)
            near = [one for one in taken if abs(one - offset) < APART]
            if near:
                raise ConfigError(
                    f"{study.source}: `seed_offset` gives {label} {offset}, and {taken[near[0]]}"
                    f" has {near[0]}: their replications would share seeds. Offsets must be"
                    f" {APART:,} or more apart."
                )
            taken[offset] = label


def study_folder(name: str, root: Path, user_dir: Path) -> Path:
    """The folder that an entry of `studies` names. Raises `ConfigError`."""
    if "/" not in name:
        folder = root / BUNDLED / name
        known = bundled_names(root)
        if name not in known:
            hint = nearest(name, known)
            beside = (
                f" The folder {name} of yours is named './{name}'."
                if (user_dir / name / FILE).is_file()
                else ""
            )
            raise ConfigError(
                f"config: unknown study '{name[:60]}' in `studies`.{hint}{beside} Bundled studies:"
                f" {', '.join(known)}; a study of your own is named by its folder, such as"
                " './my-study'."
            )
        return folder
    folder = user_dir / name
    if not folder.is_dir():
        what = "is no folder" if folder.exists() else "there is no such folder"
        raise ConfigError(
            f"config: `studies` names '{name[:200]}': {what}. A study is a folder with a {FILE}."
        )
    return folder.resolve()


def bundled(root: Path, *names: str) -> dict[str, Study]:
    """Bundled studies by name; all of them by default. Raises `ConfigError`."""
    return load_studies(names or bundled_names(root), root, root)


def study_of_job(job_study: Mapping[str, str]) -> Study:
    """The study of a job, as `Project.study_jobs` gives it.

    Raises `ConfigError` where its declaration is not the one that the job was planned with.
    """
    root = Path(job_study["root"]) if job_study["root"] else None
    study = read_study(Path(job_study["folder"]), job_study["folder"], root)
    if study.digest != job_study["digest"]:
        raise ConfigError(
            f"{study.source}: was edited after this run had read it. Run again: what the edit"
            " concerns is rebuilt."
        )
    return study
