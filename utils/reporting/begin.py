"""What a run does before its first step: it shows its plan, goes on from a checkpoint, and takes its folder."""

import sys
from pathlib import Path

from utils.command_line.options import effective
from utils.reporting.summary import describe, layer_table
from utils.reporting.tracking import Tracker
from utils.run_folder.folder import RunFolder
from utils.training.resume import resume, start_from
from utils.training.run import Run


def begin(run: Run, folder: RunFolder) -> Tracker:
    """Show the plan, with --dry-run only that; go on from a checkpoint if asked to; make the folder this run's own."""
    options, main = run.options, run.accelerator.is_main_process
    plan = describe(run)
    if options.resume and not options.dry_run:
        plan += "\n" + resume(run, options.resume)
    if options.start_from and run.step == 0:
        plan += "\n" + start_from(run, Path(options.start_from))
    if options.dry_run:
        run.accelerator.print(plan, layer_table(run), sep="\n")
        sys.exit(0)
    if main:
        folder.claim()
    tracker = Tracker(folder.path, options.epochs, run.phases[-1].end, run.step, main)
    tracker.start(effective(options), plan)
    return tracker
