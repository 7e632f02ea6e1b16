# Functions only: what happens before the first job, after the last one and at the end of the process.

import atexit

from grace.results.usable import followed_by


def before_jobs():
    end_what_was_left_running()
    stop_where_nothing_can_be_written()
    stop_without_r(workflow.dag.needrun_jobs())
    stop_where_policy_is_broken(workflow.dag.needrun_jobs())
    stop_without_extraction_key(workflow.dag.needrun_jobs())
    stop_beyond_budget(workflow.dag.needrun_jobs())
    tell_unrecorded(workflow.dag)
    check_models_first(workflow.dag.needrun_jobs())


def after_failure():
    note_failures()


def also(event, ours):
    """Do ours before what the workflow that uses Grace does on an event, now or in a later line.

    Snakemake leaves out `onstart` and `onerror` of modules.
    """

    def registered(theirs):
        def both(log):
            ours()
            theirs(log)

        setattr(workflow, f"_{event}", both)

    registered(getattr(workflow, f"_{event}"))
    setattr(workflow, event, registered)


def register_handlers():
    """Unless this is read again for single rules, for the same results."""
    if READ_AGAIN:
        return
    # Not in `onsuccess`, which a run with nothing to be done does not reach.
    workflow.execute = followed_by(workflow.execute, fail_without_usable_answer)
    if not workflow.modifier.is_main_snakefile():
        also("onstart", before_jobs)
        also("onerror", after_failure)
    atexit.register(tell_forecast)
    atexit.register(go_on_or_tell)
