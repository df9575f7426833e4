"""Sparse training with tickets on CIFAR-10, CIFAR-100 and other small images (Yin et al., Sup-tickets, UAI 2022).

python main_cifar.py --sparse --method granet --density 0.05 --sup-tickets     the paper's run of Table 1
python main_cifar.py --sparse --method rigl --density 0.05                     the same run without tickets
python main_cifar.py --sparse --method rigl --density 0.2 --edst               FreeTickets: an ensemble from one run
python main_cifar.py --data svhn --data-dir FOLDER --flip none ...             one's own images
python main_cifar.py --data digits --model resnet20 --epochs 20                a minute on a CPU, dense
accelerate launch main_cifar.py ...                                            on several GPUs
"""

if __name__ == "__main__":  # before the imports below, which take seconds
    from utils.command_line.program import start

    start()

from collections.abc import Callable

import torch
from accelerate import Accelerator
from torch import nn

from models import build
from sparselearning import take_ticket
from utils.command_line.errors import one_line_errors
from utils.command_line.options import CifarOptions
from utils.command_line.parser import parse
from utils.data.cifar import load_cifar
from utils.data.protocol import Splits
from utils.reporting.ensemble import finish_ensemble
from utils.reporting.summary import finish, save_member
from utils.reporting.tracking import Tracker
from utils.run_folder.folder import RunFolder
from utils.training.build import make_accelerator
from utils.training.interruption import Interruption
from utils.training.loop import train
from utils.training.run import Run
from utils.training.session import begin, open_folder


def main() -> None:
    args = parse(CifarOptions, __doc__)
    accelerator = make_accelerator(args)
    folder = open_folder(args, accelerator)
    data = load_cifar(
        args.data,
        args.data_dir,
        accelerator.device,
        limit_train=args.limit_train,
        limit_test=args.limit_test,
        valid_fraction=args.valid_fraction,
        image_size=args.image_size,
        mean=args.mean,
        std=args.std,
        flip=args.flip,
        label_column=args.label_column,
    )
    side = data.train.side
    train_all(folder, accelerator, data, lambda: build(args.model, data.num_classes, args.width, side))


def train_all(folder: RunFolder, accelerator: Accelerator, data: Splits, network: Callable[[], nn.Module]) -> None:
    """One run, or with --ensemble Algorithm 2 of FreeTickets: independent runs, and the ensemble of their tickets."""
    interruption = Interruption(accelerator, folder.args.checkpoint_minutes)
    for member in folder.members():
        if member.finished and member.args.resume:
            continue
        torch.manual_seed(member.args.seed)  # the weights; everything else draws from generators of its own
        run = Run(member.args, accelerator, network(), data)  # line 1 of Algorithm 1
        tracker = begin(run, member)
        if member is not folder and accelerator.is_main_process:
            folder.claim()  # what --overwrite replaces is no finished ensemble from here on
        with interruption:
            algorithm_1(run, tracker, interruption)
        accelerator.free_memory()
    if folder.args.ensemble:
        accelerator.print(finish_ensemble(folder, accelerator, network(), data.test))


def algorithm_1(run: Run, tracker: Tracker, interruption: Interruption) -> None:
    """Algorithm 1 of the paper, from line 2 on: train, take tickets, superpose them."""
    args, superposition, results = run.args, run.superposition, run.results
    superposed = None
    for phase in run.plan[run.phases_done :]:
        train(run, phase, tracker, interruption)  # lines 4, 6 and 7; at the start of a cycle 12 and 13
        ticket = take_ticket(run.model.state_dict(), run.masks)
        results["final"] = run.evaluate(ticket)
        tracker.model(phase.name, run.step, results["final"])
        if phase.ticket:  # line 8
            results["tickets"].append(results["final"])
        elif phase is run.plan[0] and phase is not run.plan[-1]:
            results[phase.name] = results["final"]
        if superposition is not None and (phase.ticket or (args.include_normal and phase is run.plan[0])):
            superposition.add(ticket)  # line 10, Eq. 4
        if superposition is not None and phase.ticket:
            superposed = run.superpose()  # line 11
            results["superposed"] = run.evaluate(superposed)
            tracker.model("superposed", run.step, results["superposed"])
        if args.save_tickets:
            save_member(run, tracker.folder, phase, ticket)
        run.phases_done += 1
        run.save(tracker.folder)
    if args.save_tickets and len(results["tickets"]) > 1:
        results["ensemble"] = run.evaluate_ensemble(tracker.folder)
        tracker.model("ensemble", run.step, results["ensemble"])
    if superposition is not None:  # made already, unless the run was cut after its last phase
        ticket = superposed or run.superpose()
    else:
        ticket = take_ticket(run.model.state_dict(), run.masks)
    tracker.say(finish(run, tracker.folder, ticket))  # line 17
    tracker.close()


if __name__ == "__main__":
    with one_line_errors():
        main()
