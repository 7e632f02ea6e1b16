"""Write a study to begin with, which runs as it is."""

from pathlib import Path

from grace.errors import ConfigError
from grace.studies.skeleton import new_study


def written(name: str | None) -> str:
    """What was written, and what to do next. Raises `ConfigError`."""
    if name is None:
        raise ConfigError(
            "config: `name` is missing: snakemake new_study --config name=my-study writes the"
            " folder my-study."
        )
    folder = Path(name)
    files = new_study(folder)
    named = str(folder) if "/" in str(folder) else f"./{folder}"
    return "\n".join(
        [
            *(f"wrote {path}" for path in files),
            f"Check it:  snakemake check_study --config 'studies=[{named}]'",
            f"Run it:    snakemake --config 'studies=[{named}]'",
        ]
    )


if __name__ == "__main__":
    from grace.runs.scripting import logged, show

    with logged(snakemake.log[0]):
        show(written(snakemake.params.name), snakemake.log[0])
