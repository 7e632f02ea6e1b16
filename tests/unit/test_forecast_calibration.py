"""The forecast held to what past jobs took, as their files say it; files may be anybody's."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from grace.cluster.plan import timeouts
from grace.forecast import actual, report
from grace.forecast.calibration import Arithmetic, Calibration, calibration, ratio
from grace.forecast.estimate import Forecaster
from grace.forecast.hardware import of_cores
from grace.forecast.past_jobs import MOST_ALIKE, PastJob, past_jobs
from grace.settings.project import Project

ROOT = Path(__file__).parents[2]
HEAD = "s\th:m:s\tmax_rss\tcpu_time\n"
BEGAN = "2026-11-22T10:00:00.000+00:00"


def project(results: Path, **values: Any) -> Project:
    # Large enough for its work to count beside its start.
    run = {"results": str(results), "studies": ["study2"], "replications": 1, **values}
    return Project(ROOT, run, environment={})


def job_files(
    results: Path, run: Project, *, wall: object = 100.0, experiment: str = "exp2",
    replication: int = 0, model: str = "pico", cores: int = 4, **changes: Any,
) -> Path:  # fmt: skip
    """The files of a job, as Snakemake and Grace leave them; its benchmark file."""
    label = f"study2_{experiment}"
    folder = results / model / f"replication-{replication}"
    (folder / "provenance").mkdir(parents=True, exist_ok=True)
    table = results / "benchmarks" / model / folder.name / f"{label}.tsv"
    table.parent.mkdir(parents=True, exist_ok=True)
    table.write_text(f"{HEAD}{wall}\t0:01:40\t400.0\t380.5\n")
    facts = {
        "output_config": {
            "model": {"key": model},
            "study": "study2",
            "experiment": experiment,
            "limit": len(run.trials["study2"]),
            "prompts": run.prompt_digests_of(model)[label],
            **({"decoding": {"max_tokens": 256}} if experiment == "exp1" else {}),
        },
        "started": BEGAN,
        "hardware": {"node": "n", "pod": None, "cpus": 8, "gpus": []},
        "engine": {"engine": "transformers", "device": "cpu", "threads": cores},
        "engine_opened": True,
        "gpus": 0,
        "answers": [{"session": "s", "answers": 3, "started": BEGAN}],
        **changes,
    }
    (folder / "provenance" / f"{label}.json").write_text(json.dumps(facts))
    records = [{"usage": {"completion_tokens": tokens}} for tokens in (10, 20, 30)]
    (folder / f"{label}.json").write_text(json.dumps(records))
    return table


def job_of(forecaster: Forecaster, label: str = "study2_exp2") -> Any:
    found = forecaster.replication("pico", None)
    assert found is not None
    return next(job for job in found.jobs if job.label == label)


def first_start(forecaster: Forecaster) -> float:
    """What the first job of a replication takes before its work: the model's start is its."""
    found = forecaster.replication("pico", None)
    assert found is not None
    assert found.start_s > 0
    return found.start_s + job_of(forecaster).start_s


def test_a_past_job_moves_the_estimate_to_what_it_took(tmp_path: Path) -> None:
    run = project(tmp_path)
    before = job_of(Forecaster(run))
    assert before.calibration == Calibration(1.0, 0, False)
    wall = first_start(Forecaster(run)) + 3 * before.work_s
    job_files(tmp_path, run, wall=wall)
    after = job_of(Forecaster(run))
    assert after.calibration.text == "1 job of its own"
    # The next finds the model loaded.
    assert after.seconds == pytest.approx(before.start_s + 3 * before.work_s, rel=0.01)
    # Its other experiment is another kind of work.
    assert job_of(Forecaster(run), "study2_exp1").calibration.jobs == 0


def test_the_middle_of_several_counts(tmp_path: Path) -> None:
    run = project(tmp_path)
    plain, start = job_of(Forecaster(run)), first_start(Forecaster(run))
    for replication, times in enumerate((2.0, 3.0, 50.0)):
        wall = start + times * plain.work_s
        job_files(tmp_path, run, wall=wall, replication=replication)
    found = job_of(Forecaster(run)).calibration
    assert (found.jobs, found.ratio) == (3, pytest.approx(3.0, rel=0.01))
    assert found.text == "3 jobs of its own"


def test_other_models_on_the_same_hardware_stand_in(tmp_path: Path) -> None:
    run = project(tmp_path)
    (one,) = past_of(tmp_path, run)
    hardware = of_cores(4)
    said = Arithmetic(5.0, 10.0)
    other = replace(one, model="another", wall_s=35.0)
    mine = replace(one, wall_s=25.0)

    def found(*jobs: PastJob, on: Any = hardware, engine: str = "transformers") -> Calibration:
        return calibration(jobs, lambda _: said, "pico", "exp2", engine, on)

    assert found(other) == Calibration(3.0, 1, False)
    assert found(other).text == "1 job of other models"
    assert found(other, mine) == found(mine, other) == Calibration(2.0, 1, True)
    # On other hardware, by another engine, of the other experiment.
    assert found(other, on=of_cores(8)).jobs == 0
    assert found(other, engine="vllm").jobs == 0
    assert found(replace(other, experiment="exp1")).jobs == 0
    assert calibration([other], lambda _: None, "pico", "exp2", "transformers", hardware).jobs == 0


def past_of(folder: Path, run: Project) -> list[PastJob]:
    job_files(folder, run)
    return past_jobs(folder, ["pico"])


def test_a_job_that_was_mostly_its_start_says_nothing(tmp_path: Path) -> None:
    (job,) = past_of(tmp_path, project(tmp_path))
    assert ratio(replace(job, wall_s=30.0), Arithmetic(10.0, 10.0)) == 2.0
    assert ratio(replace(job, wall_s=30.0), Arithmetic(10.1, 9.9)) is None
    assert ratio(replace(job, wall_s=9.0), Arithmetic(10.0, 10.0)) is None


def test_a_job_that_was_mostly_its_start_says_how_long_starts_take(tmp_path: Path) -> None:
    (job,) = past_of(tmp_path, project(tmp_path))
    said = {"short": Arithmetic(5.0, 1.0), "pico": Arithmetic(5.0, 20.0)}
    short, own = replace(job, model="short", wall_s=11.0), replace(job, wall_s=40.0)

    def found(*jobs: PastJob) -> Calibration:
        return calibration(
            jobs, lambda one: said[one.model], "pico", "exp2", "transformers", of_cores(4)
        )

    # 10 s of start, and so 30 s for what was to take 20.
    assert found(short, own) == Calibration(1.5, 1, True, 2.0)
    assert found(short, own).held(Arithmetic(5.0, 2.0)) == 13.0
    assert found(short) == Calibration(1.0, 0, False, 2.0)
    assert found(own) == Calibration(1.75, 1, True, 1.0)


def test_a_job_that_says_how_long_it_had_its_model_tells_start_from_work(tmp_path: Path) -> None:
    run = project(tmp_path)
    plain = job_of(Forecaster(run))
    job_files(tmp_path, run, wall=100.0, timing={"with_model_s": 40.0})
    found = job_of(Forecaster(run)).calibration
    assert found.ratio == pytest.approx(40 / plain.work_s)
    assert found.start == pytest.approx(60 / first_start(Forecaster(run)))
    assert job_of(Forecaster(run)).seconds == pytest.approx(40 + plain.start_s * found.start)
    (job,) = past_jobs(tmp_path, ["pico"])
    short = replace(job, with_model_s=0.1)
    assert ratio(short, Arithmetic(5.0, 10.0)) is None
    assert calibration(
        [short], lambda _: Arithmetic(5.0, 1.0), "pico", "exp2", "transformers", of_cores(4)
    ) == Calibration(start=pytest.approx(99.9 / 5))
    for hostile in (-1, 101, True, "7", None, float("nan"), [3]):
        job_files(tmp_path, run, wall=100.0, timing={"with_model_s": hostile})
        assert past_jobs(tmp_path, ["pico"]) == []


@pytest.mark.parametrize(
    ("tag", "count", "gpus", "device", "same"),
    [
        ("a100", 1, 1, "NVIDIA A100-SXM4-80GB", True),
        ("a100", 2, 1, "NVIDIA A100-SXM4-80GB", False),
        ("rtx3090", 8, 8, "NVIDIA GeForce RTX 3090", True),
        ("a40", 1, 1, "NVIDIA RTX A4000", False),
        ("a40", 1, 1, "NVIDIA A40", True),
        ("l40", 1, 1, "NVIDIA L40S", True),
        ("v100", 1, 1, None, False),
        (None, 4, 0, None, True),
        (None, 2, 0, None, False),
        (None, 4, 1, "NVIDIA A40", False),
    ],
)
def test_hardware_is_known_by_its_name(
    tag: str | None, count: int, gpus: int, device: str | None, same: bool, tmp_path: Path
) -> None:
    (job,) = past_of(tmp_path, project(tmp_path))
    assert replace(job, gpus=gpus, device=device).was_on(tag, count) is same


@pytest.mark.parametrize(
    "changes",
    [
        {"engine_opened": False},  # all of it was in the journal
        {"answers": [{"answers": 2, "started": BEGAN}, {"answers": 1, "started": "2026"}]},
        {"answers": []},
        {"answers": "many"},
        {"engine": None},
        {"gpus": "all", "engine": {"engine": "vllm", "device": "cuda"}},
        {"started": None},
        {"output_config": {}},
    ],
)
def test_jobs_that_found_answers_or_are_no_jobs_do_not_count(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    run = project(tmp_path)
    job_files(tmp_path, run, **changes)
    assert past_jobs(tmp_path, ["pico"]) == []


@pytest.mark.parametrize("wall", ["NA", "nan", "inf", "-1", "1e300", "", "x" * 200_000])
def test_times_that_are_none_do_not_count(tmp_path: Path, wall: str) -> None:
    run = project(tmp_path)
    job_files(tmp_path, run, wall=wall)
    assert past_jobs(tmp_path, ["pico"]) == []


def test_damaged_files_do_not_stop_a_forecast(tmp_path: Path) -> None:
    run = project(tmp_path)
    table = job_files(tmp_path, run)
    facts = tmp_path / "pico/replication-0/provenance/study2_exp2.json"
    for broken in ("", "{", "[]", "[" * 100_000, "\x00"):
        facts.write_text(broken)
        assert past_jobs(tmp_path, ["pico"]) == []
    facts.unlink()
    assert past_jobs(tmp_path, ["pico"]) == []
    table.write_bytes(b"\xff\xfe\x00")
    assert past_jobs(tmp_path, ["pico"]) == []
    assert job_of(Forecaster(run)).calibration.jobs == 0


def test_records_of_another_model_in_the_folder_do_not_count(tmp_path: Path) -> None:
    run = project(tmp_path)
    job_files(tmp_path, run, output_config={"model": {"key": "other"}, "study": "study2"})
    assert past_jobs(tmp_path, ["pico"]) == []


def test_other_prompts_say_nothing_and_fewer_trials_do(tmp_path: Path) -> None:
    whole = project(tmp_path)
    sample = project(tmp_path, limit=400)
    plain = job_of(Forecaster(sample))
    # Too few to calibrate by: mostly start.
    job_files(tmp_path, sample, wall=plain.start_s + 2 * plain.work_s)
    (job,) = past_jobs(tmp_path, ["pico"])
    assert job.trials == 400
    said = Forecaster(whole).arithmetic(job)
    assert said is not None
    assert said.work_s == pytest.approx(plain.work_s, rel=0.1)
    assert Forecaster(whole).arithmetic(replace(job, prompts={"seed": "other"})) is None
    assert Forecaster(whole).arithmetic(replace(job, model="gone")) is None
    assert Forecaster(whole).arithmetic(replace(job, study="gone")) is None


def test_answers_are_as_long_as_past_ones(tmp_path: Path) -> None:
    run = project(tmp_path)
    assumed = job_of(Forecaster(run), "study2_exp1")
    assert (assumed.answers, assumed.measured) == (128, False)
    job_files(tmp_path, run, experiment="exp1", wall=60)
    found = job_of(Forecaster(run), "study2_exp1")
    assert (found.answers, found.measured) == (20, True)
    assert found.work.new_tokens == 20 * found.work.requests
    # With less room they were cut off.
    shorter = project(tmp_path, generation={"max_tokens": 64})
    assert job_of(Forecaster(shorter), "study2_exp1").answers == 64


def test_time_outs_grow_with_slow_jobs_and_do_not_shrink_with_fast_ones(tmp_path: Path) -> None:
    slow, fast = tmp_path / "slow", tmp_path / "fast"
    usual = timeouts.asking_minutes(project(tmp_path / "none"), "pico")
    for folder, wall in ((slow, 20_000.0), (fast, 6.0)):
        job_files(folder, project(folder), wall=wall)
    assert timeouts.asking_minutes(project(fast), "pico") == usual
    assert timeouts.asking_minutes(project(slow), "pico")["study2", "exp2"] >= 4 * 20_000 / 60


@pytest.mark.parametrize("engine", ["vllm", "transformers"])
def test_a_model_is_started_by_the_first_of_its_jobs(tmp_path: Path, engine: str) -> None:
    run = project(tmp_path)
    run.entries["pico"] = run.entries["pico"].model_copy(update={"engine": engine})
    (job,) = past_of(tmp_path, run)
    first = replace(job, engine=engine)  # as the entry
    later = replace(first, began="2026-11-22T11:00:00.000+00:00", replication=1)
    elsewhere = replace(later, pod="another")
    found = Forecaster(run, past=[first, later, elsewhere])
    starts = [said.start_s for one in found.past if (said := found.arithmetic(one))]
    assert starts[0] == starts[2] > starts[1] > 0


def test_forecast_against_actual_is_a_table_and_a_file(tmp_path: Path) -> None:
    run = project(tmp_path, replications=2)
    plain, start = job_of(Forecaster(run)), first_start(Forecaster(run))
    for replication, times in enumerate((2.0, 2.2)):
        wall = start + times * plain.work_s
        job_files(tmp_path, run, wall=round(wall, 3), replication=replication)
    found = Forecaster(run)
    rows = list(actual.comparisons(found))
    # Each is held to the other, and not to itself.
    assert [row.calibrated_by for row in rows] == ["1 job of its own"] * 2
    assert rows[0].ratio < 1 < rows[1].ratio
    assert rows[0].forecast_s == pytest.approx(start + plain.work_s, rel=0.01)
    text = report.text(run, found, rows)
    assert "Forecast against actual" in text
    path = actual.write(run, rows)
    assert path == tmp_path / "benchmarks/forecast.csv"
    with path.open(newline="") as file:
        written = list(csv.DictReader(file))
    assert [row["replication"] for row in written] == ["0", "1"]
    assert tuple(written[0]) == actual.COLUMNS
    assert float(written[0]["ratio"]) == pytest.approx(rows[0].ratio, abs=0.001)
    # It is no benchmark file itself.
    assert len(past_jobs(tmp_path, ["pico"])) == 2


def test_a_few_replications_are_enough(tmp_path: Path) -> None:
    run = project(tmp_path)
    for replication in range(MOST_ALIKE + 3):
        job_files(tmp_path, run, replication=replication)
    found = past_jobs(tmp_path, ["pico"])
    assert [job.replication for job in found] == list(range(MOST_ALIKE))
