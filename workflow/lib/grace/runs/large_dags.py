"""What Snakemake computes again and again in a large DAG, computed once, and its answer to SIGTERM.

Measured on Snakemake 9.27.1 (docs/performance.md, "Large DAGs"):

- `DAG._ready` counts, whenever a job ends, the dependencies that each job of its successors' groups
  has inside of it. The report's group has all tables of a run among them, so that n jobs count
  about n² dependencies;
- the parameters of a function are read with every call of each function that a rule has;
- the parts of a script's address are parsed, and the script is read, with every job of its rule;
- Python's garbage collector searches all jobs there are with every few hundred new objects;
- SIGTERM is noted with a lock that the same thread may hold: a dry-run then never ends, and else
  only after all jobs.

What Snakemake decides stays as it is. A version that nobody looked at stays as it is, too, slower.
"""

from __future__ import annotations

import gc
import inspect
import os
import signal
from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Any
from weakref import WeakKeyDictionary

#: Versions of Snakemake whose functions these stand for.
KNOWN = "9.27."
#: New objects after which Python looks for garbage, and how often it looks among older ones.
_COLLECT = (100_000, 20, 20)
_MARK = "grace_once"


def adapt_scheduling() -> None:
    """Replace them in this process's Snakemake, once."""
    import snakemake
    from snakemake import common, dag, rules, sourcecache
    from snakemake.scheduling import job_scheduler

    if not snakemake.__version__.startswith(KNOWN) or hasattr(dag.DAG._ready, _MARK):
        return
    # What is loaded so far stays to the end, so that no search need look at it.
    gc.freeze()
    gc.set_threshold(*_COLLECT)
    dag.DAG._ready = _marked(ready)
    once = _marked(parameters_once(common.get_function_params))
    common.get_function_params = rules.get_function_params = once
    sourcecache.parse_uri = _marked(lru_cache(maxsize=1024)(sourcecache.parse_uri))
    dag.ScriptProcessor.process_job = _marked(once_a_script(dag.ScriptProcessor.process_job))
    job_scheduler.JobScheduler.exit_gracefully = _marked(end)


def _marked(function: Any) -> Any:
    setattr(function, _MARK, True)
    return function


def ready(dag: Any, job: Any) -> bool:
    """Whether all that a job's group needs from outside of it is there: `DAG._ready`."""
    group = dag._group.get(job)
    if group is None:
        return bool(dag._n_until_ready[job] == 0)
    return all(dag._n_until_ready[one] == _inside(dag, one) for one in group)


def _inside(dag: Any, job: Any) -> int:
    """How many of a job's dependencies are in its own group.

    Known as long as the DAG has these groups: where jobs change, it makes all of them anew.
    """
    groups, counts = vars(dag).get("grace_inside", (None, {}))
    if groups is not dag._group:
        counts = {}
        dag.grace_inside = (dag._group, counts)
    if job not in counts:
        group = dag._group.get(job)
        others = map(dag._group.get, dag._dependencies[job])
        counts[job] = sum(other is group or other == group for other in others)
    return int(counts[job])


def parameters_once(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """`get_function_params` that remembers what it has read of a function as long as that lives."""
    known: tuple[WeakKeyDictionary[Any, Any], ...] = (WeakKeyDictionary(), WeakKeyDictionary())

    @wraps(read)
    def remembered(function: Any) -> Any:
        # A bound method is another object with every access; it has one parameter less.
        bound = inspect.ismethod(function)
        key, kept = (function.__func__ if bound else function), known[bound]
        try:
            if key not in kept:
                kept[key] = read(function)
            return kept[key]
        except TypeError:  # nothing that can be a key
            return read(function)

    return remembered


def once_a_script(process: Callable[[Any, Any], None]) -> Callable[[Any, Any], None]:
    """`process_job`, which sees whether a job's script is there, once for a rule's script."""

    @wraps(process)
    def seen_once(processor: Any, job: Any) -> None:
        script = getattr(job.rule, processor.script_type)
        seen = vars(processor).setdefault("grace_seen", set())
        # A name with wildcards is another file with every job.
        if "{" in str(script) or job.rule not in seen:
            process(processor, job)
            seen.add(job.rule)

    return seen_once


def end(scheduler: Any, *_signal: Any) -> None:
    """On SIGTERM: a dry-run ends as any process does, a run after the jobs that it has begun."""
    if scheduler.dryrun:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)
    scheduler._user_kill = "graceful"
    scheduler._open_jobs.release()
