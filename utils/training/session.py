"""What comes before training: whose folder it is, and from where the run starts."""

import sys

from accelerate import Accelerator

from utils.command_line.options import Options
from utils.reporting.summary import describe, layer_table
from utils.reporting.tracking import Tracker
from utils.run_folder.folder import RunFolder
from utils.training.run import Run


def open_folder(args: Options, accelerator: Accelerator) -> RunFolder:
    """The run folder; ends the program where --resume finds that nothing is left to do.

    Raises:
        UsageError: it holds another run.
    """
    folder = RunFolder(args)
    if accelerator.is_main_process and not args.dry_run:
        for run in (folder, *folder.members()):
            run.check()
    if args.resume and folder.finished:
        accelerator.print(f"{folder.path} holds this run, finished: nothing to resume")
        sys.exit(0)
    return folder


def begin(run: Run, folder: RunFolder) -> Tracker:
    """Show the plan, with --dry-run only that; go on from a checkpoint if asked to; make the folder this run's own."""
    args, main = run.args, run.accelerator.is_main_process
    plan = describe(run)
    if args.dry_run:
        run.accelerator.print(plan, layer_table(run), sep="\n")
        sys.exit(0)
    if args.resume:
        plan += "\n" + run.resume(folder.path, args.resume)
    if main:
        folder.claim()
    tracker = Tracker(folder.path, args.epochs, run.plan[-1].end, run.step, main)
    tracker.say(plan)
    return tracker
