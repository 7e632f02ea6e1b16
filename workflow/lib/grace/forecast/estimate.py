"""What each job of a configured run takes, and so its pods: from tokens and hardware to seconds.

The tokens are those of the real prompts, by the model's tokeniser where it is on this machine and
may be asked, else by a stand-in; both are counted once for all models that they are the same for.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from statistics import mean

from grace.cluster.plan.placement import Placement, apply, needs_gpu
from grace.cluster.plan.sizes import CPU_CORES
from grace.forecast import hardware as machines
from grace.forecast.calibration import Arithmetic, Calibration, calibration
from grace.forecast.hardware import Hardware
from grace.forecast.job_estimates import JobEstimate, ReplicationEstimate
from grace.forecast.model_size import ModelSize, model_size
from grace.forecast.past_jobs import PastJob, past_jobs
from grace.forecast.request_counts import RequestCounts
from grace.forecast.throughput import (
    Work,
    overheads,
    remote_seconds,
    seconds,
    start_seconds,
)
from grace.forecast.tokens import StandInTokenizer
from grace.forecast.workload import (
    SAMPLE,
    SAMPLE_EXACT,
    Tokenizer,
    Way,
    after_traces,
    extraction_requests,
    generation_work,
    scoring_work,
    with_answers_of,
    with_second_readings,
)
from grace.scoring.rereading import count_of_job
from grace.settings.config import ModelEntry
from grace.settings.project import Project

#: What the stand-in counted, by what decides it: the same for all models that it is asked of.
_COUNTED: dict[tuple[object, ...], Work] = {}
_MOST_COUNTED = 500
ANSWER_TOKENS = 128
"""Tokens of an answer of a model that does not reason, until past ones show how long they are."""


class Forecaster:
    """The estimates of one project. `past` are jobs to calibrate by.

    `exact` asks the models' own tokenisers, of every prompt; otherwise some of the prompts, of
    `sample` different trials, are counted by the stand-in, which takes a fraction of a second and
    is the same on every machine.
    """

    def __init__(
        self, project: Project, *, cores: int = CPU_CORES, exact: bool = False,
        past: Sequence[PastJob] | None = None, asked: RequestCounts | None = None,
        sample: int = SAMPLE,
    ) -> None:  # fmt: skip
        self._project = project
        #: What the run asks, counted once for all that need it.
        self.asked = asked or RequestCounts(project)
        self._cores = cores
        self._exact = exact
        self._sample = sample
        self._past = past
        self._stand_in = StandInTokenizer()
        self._works: dict[tuple[object, ...], Work] = {}
        self._sizes: dict[tuple[str, Placement | None], ModelSize | None] = {}

    @cached_property
    def past(self) -> list[PastJob]:
        """Jobs of the run's folder of results, unless others were given."""
        if self._past is not None:
            return list(self._past)
        return past_jobs(Path(self._project.config.results), self._project.models)

    def replication(self, model: str, placement: Placement | None) -> ReplicationEstimate | None:
        """A replication of the model there; None where its size or the hardware is not known."""
        entry = self._entry(model, placement)
        facts = self._facts(model, placement)
        if facts is None and not entry.engine_spec.is_remote:
            return None
        jobs = tuple(
            self._job(model, placement, study, experiment)
            for study, experiments in self._project.asked.items()
            for experiment in experiments
        )
        start, on = 0.0, "a server elsewhere"
        if facts is not None:
            size, hardware = facts
            on = hardware.name
            if entry.engine_spec.loads_once:
                start = start_seconds(size, overheads(entry.engine_spec))
        return ReplicationEstimate(model, placement, on, start, jobs)

    def reading(self, model: str, study: str) -> Work:
        """What a model that reads answers is asked of one replication's."""
        project = self._project
        answers, _ = self._answers(model, study)
        return extraction_requests(
            project.studies[study], self.asked.items(model, study, "exp1"), project.extraction,
            self._stand_in, answers, Way(served=False, most=SAMPLE),
        )  # fmt: skip

    def reading_seconds(self, work: Work) -> float:
        """The same in seconds, at a server elsewhere."""
        return remote_seconds(work, self._project.config.requests.concurrency)

    def why_unknown(self, model: str, placement: Placement | None) -> str:
        """What is missing where `replication` is None."""
        if self._size(model, placement) is None:
            return f"config/models.yaml says no `parameters_b` of '{model}'"
        tag = placement.tag if placement else ""
        return f"config/clusters.yaml says no `tflops` and `bandwidth_gb_s` of '{tag}'"

    def arithmetic(self, job: PastJob, *, beforehand: bool = False) -> Arithmetic | None:
        """What the arithmetic says of a past job of a model and study that are still there.

        With answers as long as they turned out, or `beforehand` as long as was to be assumed.
        """
        project = self._project
        if job.model not in project.models or job.experiment not in project.asked.get(
            job.study, ()
        ):
            return None
        placement = self._placed_as(job)
        if (placement is None and job.gpus) or job.engine != project.entries[job.model].engine:
            return None
        facts = self._facts(job.model, placement, job.cores)
        if facts is None or project.prompt_digests_of(job.model)[job.label] != job.prompts:
            return None
        work = self._work(job.model, job.study, job.experiment, job.trials, job.max_tokens)
        if job.experiment == "exp1":
            tokens = job.answer_tokens
            if beforehand and job.max_tokens is not None:
                tokens = self._assumed(job.model, job.max_tokens)
            if tokens is None:
                return None
            work = with_answers_of(work, tokens)
        entry = self._entry(job.model, placement)
        first = not entry.engine_spec.loads_once or self._is_first(job)
        costs = overheads(entry.engine_spec)
        start = costs.job + (start_seconds(facts[0], costs) if first else 0.0)
        concurrency = project.config.requests.concurrency
        return Arithmetic(start, seconds(work, *facts, costs, concurrency))

    def hardware_of(self, job: PastJob) -> Hardware | None:
        """What a past job was computed on, where that is known."""
        facts = self._facts(job.model, self._placed_as(job), job.cores)
        return None if facts is None else facts[1]

    def _placed_as(self, job: PastJob) -> Placement | None:
        return next(
            (one for one in self._project.placements[job.model] if job.was_on(one.tag, one.gpus)),
            None,
        )

    def _is_first(self, job: PastJob) -> bool:
        """Whether no job of its model began before it in its pod, or on its machine."""
        alike = [one.began for one in self.past if (one.model, one.pod) == (job.model, job.pod)]
        return job.began <= min(alike, default=job.began)

    def _entry(self, model: str, placement: Placement | None) -> ModelEntry:
        entry = self._project.entries[model]
        return apply(entry, placement) if placement else entry

    def _size(self, model: str, placement: Placement | None) -> ModelSize | None:
        key = (model, placement)
        if key not in self._sizes:
            entry = self._entry(model, placement)
            self._sizes[key] = model_size(entry, placement, self._project.root)
        return self._sizes[key]

    def _facts(
        self, model: str, placement: Placement | None, cores: int | None = None
    ) -> tuple[ModelSize, Hardware] | None:
        """Size and hardware, where both are known."""
        entry = self._entry(model, placement)
        size = self._size(model, placement)
        found: Hardware | None = None
        if placement is not None:
            found = machines.of_gpus(self._project.cluster.gpus[placement.tag], placement)
        elif not needs_gpu(entry):
            found = machines.of_cores(cores or self._cores)
        if size is None or found is None or entry.engine_spec.is_remote:
            return None
        return size, found

    def _job(
        self, model: str, placement: Placement | None, study: str, experiment: str
    ) -> JobEstimate:
        entry = self._entry(model, placement)
        spec = entry.engine_spec
        longest = work = self._work(model, study, experiment)
        answers, measured = None, False
        if experiment == "exp1":
            answers, measured = self._answers(model, study)
            work = with_answers_of(longest, answers)
        costs = overheads(spec)
        start = costs.job
        concurrency = self._project.config.requests.concurrency
        facts = self._facts(model, placement)
        if facts is None:
            took, most = (remote_seconds(one, concurrency) for one in (work, longest))
            held_to = Calibration()
        else:
            size, hardware = facts
            start += 0.0 if spec.loads_once else start_seconds(size, costs)
            took, most = (seconds(one, *facts, costs, concurrency) for one in (work, longest))
            held_to = calibration(
                self.past, self.arithmetic, model, experiment, entry.engine, hardware
            )
        return JobEstimate(
            model, study, experiment, work, start, took, most, held_to, answers, measured,
            around_s=costs.job, kept=experiment == "exp2" and not entry.thinks,
        )  # fmt: skip

    def _answers(self, model: str, study: str) -> tuple[float, bool]:
        """Mean tokens of the model's answers in a study, and whether they are those of past ones.

        Past ones count if they had as much room.
        """
        most = self._project.config.generation.max_tokens
        lengths = [
            job.answer_tokens
            for job in self.past
            if (job.model, job.study, job.max_tokens) == (model, study, most)
            and job.answer_tokens is not None
        ]
        if lengths:
            return mean(lengths), True
        return self._assumed(model, most), False

    def _assumed(self, model: str, most: int) -> float:
        """Tokens of an answer of at most so many, before any is known."""
        entry = self._project.models[model]
        if entry.thinks:
            return float(entry.most_tokens(most))
        return float(min(most, ANSWER_TOKENS))

    def _tokenizer(self, model: str) -> Tokenizer:
        own = self.asked.tokenizer(model) if self._exact else None
        return own or self._stand_in

    def _work(
        self, model: str, study: str, experiment: str, trials: int | None = None,
        max_tokens: int | None = None,
    ) -> Work:  # fmt: skip
        """What an experiment asks, traces and second readings included.

        Of its first `trials`, as a past job did, if given.
        """
        entry = self._project.models[model]
        found = self._first_work(model, study, experiment, trials, max_tokens)
        if experiment == "exp1":
            return found
        traces = 1
        if entry.reasoning is not None and entry.thinks:
            # A query is one of its own behind each of its traces.
            traces = entry.reasoning.traces
            found = after_traces(found, traces, entry.reasoning.measured_max_tokens)
        share = self._project.config.scoring.reread
        elsewhere = sum(
            traces * self._first_work(model, other, "exp2", None, None).requests
            for other, experiments in self._project.asked.items()
            if other != study and "exp2" in experiments
        )
        own = found.requests // 2 if entry.thinks else found.requests
        return with_second_readings(found, count_of_job(own, elsewhere, share))

    def _first_work(
        self, model: str, study: str, experiment: str, trials: int | None,
        max_tokens: int | None,
    ) -> Work:  # fmt: skip
        """The same without traces, each query read once."""
        project = self._project
        entry = project.models[model]
        if trials is not None and trials >= len(project.trials[study]):
            trials = None
        tokenizer = self._tokenizer(model)
        served = entry.engine_spec.runs_server
        quick = tokenizer is self._stand_in
        works = _COUNTED if quick else self._works
        key = (*self._asks(model, study, experiment), trials, max_tokens)
        key = (*key, served if experiment == "exp2" else None)
        key = (*key, self._sample if quick else id(tokenizer), entry.most_tokens(0))
        if key not in works:
            if len(works) >= _MOST_COUNTED:
                works.clear()
            planned = None
            if experiment == "exp2" and not quick and trials is None:
                planned = self.asked.scoring(model, study)
            if planned is not None:
                works[key] = planned.work
                return planned.work
            items = self.asked.rendered(model, study, experiment, trials)
            most_read = SAMPLE_EXACT if experiment == "exp1" else None
            way = Way(served, most=self._sample if quick else most_read)
            design = project.studies[study]
            if experiment == "exp1":
                decoding = project.config.generation
                most = entry.most_tokens(max_tokens or decoding.max_tokens)
                decoding = decoding.model_copy(update={"max_tokens": most})
                works[key] = generation_work(design, items, tokenizer, decoding, way)
            else:
                forms = project.config.scoring.surface_forms
                works[key] = scoring_work(
                    design, items, tokenizer, forms, way, project.terminators_of(model)
                )
        return works[key]

    def _asks(self, model: str, study: str, experiment: str) -> tuple[object, ...]:
        """All that decides how much an experiment asks, but for the tokeniser."""
        project = self._project
        config = project.config
        design = project.studies[study]
        prompts = project.prompt_digests_of(model)[f"{study}_{experiment}"]
        return (
            design.digest,
            design.asking_digest(experiment),
            project.stimuli_digests[study],
            tuple(sorted(prompts.items())),
            project.models[model].prompting,
            config.generation.model_dump_json() if experiment == "exp1" else "",
            tuple(config.scoring.surface_forms) if experiment == "exp2" else (),
            project.terminators_of(model) if experiment == "exp2" else "",
            experiment,
        )


@lru_cache(maxsize=4)
def forecaster(project: Project) -> Forecaster:
    """That of the pods of a run, quick and the same on every machine but for past jobs."""
    return Forecaster(project)
