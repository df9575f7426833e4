"""A run goes on from one of its checkpoints, or begins with another's, or says why it cannot."""

from collections.abc import Mapping
from pathlib import Path

import torch

from sparselearning.errors import UsageError
from sparselearning.kinds import misfit
from utils.command_line.options import ENDING
from utils.files.typed import checked
from utils.run_folder.checkpoints import check_kept, check_run, checkpoint_path, find_checkpoints, load_checkpoint
from utils.run_folder.contents import State
from utils.training.run import Run

UNFIT = (KeyError, TypeError, AttributeError, RuntimeError, ValueError, IndexError)  # what a wrong state raises


def resume(run: Run, which: str) -> str:
    """Go on from a checkpoint, the path `which` or with "auto" the newest; returns a line that says from where.

    Raises:
        UsageError: the checkpoint named is damaged or from another run, or all of them are.
    """
    passed_over = ""
    for path in find_checkpoints(run.folder, which):
        try:
            state = load_checkpoint(path, run.identity())
            restore(run, state)
            check_kept(run.folder, len(run.results["tickets"]) if run.options.save_tickets else 0)
        except UsageError as error:
            if which != "auto":
                raise UsageError(f"{path}: {error}") from error
            passed_over += f"passed over {path}: {error}\n"
            continue
        check_same_step(run)
        return f"{passed_over}resumed from {path}, at step {run.step} of {run.phases[-1].end}{_note(run, state)}"
    check_same_step(run)
    if passed_over:
        raise UsageError(f"no checkpoint to go on from: {passed_over.splitlines()[0]}")
    return f"no checkpoint in {run.folder} yet" + ("" if run.options.start_from else ": starting at step 0")


def start_from(run: Run, source: Path) -> str:
    """Begin at the end of the normal phase of the run in a folder; returns a line that says so.

    What comes at the end of a phase is still to be done, as this run does it: a ticket, its evaluation, a checkpoint.

    Raises:
        UsageError: that run is another one up to there, or kept no checkpoint of that step.
    """
    path, like = checkpoint_path(source, run.phases[0].end), run.identity()
    if source.resolve() == run.folder.resolve():
        raise UsageError(f"--start-from {source} is the folder of this run itself: give another --output-dir")
    for newest in find_checkpoints(source, "auto"):  # the step of another one may have another number
        check_run(newest, like, but=ENDING)
        break
    if not path.is_dir():
        raise UsageError(
            f"{source} has no {path.relative_to(source)}, the checkpoint at the end of its normal phase: runs that go "
            f"on after it keep it, but older versions did not; take another run, or train it again"
        )
    state = load_checkpoint(path, like, but=ENDING)
    fresh = run.state_dict()
    state |= {"phases_done": 0, "results": fresh["results"], "superposition": fresh["superposition"]}
    restore(run, state)
    check_same_step(run)
    line = f"starting from {source}, at the end of its normal phase: step {run.step} of {run.phases[-1].end}"
    return line + _note(run, state)


def _note(run: Run, state: Mapping[str, object]) -> str:
    """A line where a run does not go on as it was computed before."""
    if (before := state["circumstances"]) == (now := run.circumstances()):
        return ""
    return f"\nnote: {before} before, {now} from here: the bits are not those of an uninterrupted run"


def restore(run: Run, content: dict[str, object]) -> None:
    """Give a run the state of a checkpoint. Raises UsageError where it does not fit this run."""
    content.setdefault("circumstances", run.circumstances())  # older ones do not say
    try:
        state = checked(content, State, "the state")
        if problem := misfit(state, _expected(run, state)):
            raise UsageError(problem)
        run.load_state_dict(state)
    except UNFIT as error:
        raise UsageError(f"it does not fit this run: {' '.join(str(error).split())[:300]}") from error


def _expected(run: Run, state: State) -> Mapping[str, object]:
    """A state built as that one should be, the parts that grow in a run included."""
    step, phases_done = state["step"], state["phases_done"]
    ends = [0, *(phase.end for phase in run.phases)]
    if not 0 <= phases_done < len(ends) or not ends[phases_done] <= step <= [*ends, ends[-1]][phases_done + 1]:
        raise UsageError(f"step {step} is not in phase {phases_done + 1} of the run")
    own: dict[str, object] = {**run.state_dict()}
    optimizer = run.optimizer.state_dict()
    parameters = [p for group in run.optimizer.param_groups for p in group["params"]]
    buffers = {i: {"momentum_buffer": p.data} for i, p in enumerate(parameters) if step and run.options.momentum}
    own["optimizer"] = {**optimizer, "state": buffers}
    if run.superposition is not None and state["superposition"] is not None:
        tickets = state["superposition"]["tickets"]
        counts = {name: mask.to(torch.int32) for name, mask in run.masks.items()}
        own["superposition"] = {
            **run.superposition.state_dict(),
            "tickets": 0,
            "average": own["model"] if tickets else {},
            "activations": counts if tickets and run.superposition.counts else {},
        }
    return own | {"results": dict(state["results"]), "history": list(state["history"])}


def check_same_step(run: Run) -> None:
    """Raises UsageError where the processes did not find the same checkpoint."""
    steps = run.accelerator.gather(torch.tensor([run.step], device=run.accelerator.device)).tolist()
    if len(set(steps)) > 1:
        raise UsageError(f"the processes resume at steps {steps}: every process must see the same --output-dir")
    run.check_masks_agree()
