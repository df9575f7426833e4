"""Sparse training with tickets on CIFAR-10 and CIFAR-100 (Yin et al., Sup-tickets, UAI 2022).

python main_cifar.py --sparse --method granet --density 0.05 --sup-tickets     the paper's run of Table 1
python main_cifar.py --sparse --method rigl --density 0.05                     the same run without tickets
python main_cifar.py --data digits --model resnet20 --epochs 20                a minute on a CPU, dense
accelerate launch main_cifar.py ...                                            on several GPUs
"""

import torch

from models import build
from sparselearning import take_ticket
from utils.arguments import parse
from utils.data import load_cifar
from utils.errors import one_line_errors
from utils.interruption import Interruption
from utils.options import CIFAR
from utils.run import Run
from utils.session import begin, open_folder
from utils.setup import make_accelerator
from utils.summary import finish, save_member
from utils.tracking import Tracker
from utils.training import train


def main() -> None:
    args = parse(CIFAR, __doc__)
    accelerator = make_accelerator(args)
    folder = open_folder(args, accelerator)
    data = load_cifar(
        args.data,
        args.data_dir,
        accelerator.device,
        limit_train=args.limit_train,
        limit_test=args.limit_test,
        valid_fraction=args.valid_fraction,
        seed=args.seed,
    )
    torch.manual_seed(args.seed)  # the weights; everything else draws from generators of its own
    run = Run(args, accelerator, build(args.model, data.num_classes), data)  # line 1
    algorithm_1(run, begin(run, folder))


def algorithm_1(run: Run, tracker: Tracker) -> None:
    """Algorithm 1 of the paper, from line 2 on: train, take tickets, superpose them."""
    args, superposition, results = run.args, run.superposition, run.results
    interruption = Interruption(run.accelerator, args.checkpoint_minutes)
    for phase in run.plan[run.phases_done :]:
        train(run, phase, tracker, interruption)  # lines 4, 6 and 7; at the start of a cycle 12 and 13
        ticket = take_ticket(run.model.state_dict(), run.masks)
        results["final"] = run.evaluate(ticket)
        tracker.model(phase.name, run.step, results["final"])
        if phase.ticket:  # line 8
            superposition.add(ticket)  # line 10, Eq. 4
            superposed = run.superpose()  # line 11
            results["tickets"].append(results["final"])
            results["superposed"] = run.evaluate(superposed)
            tracker.model("superposed", run.step, results["superposed"])
        elif args.sup_tickets:
            results["normal"] = results["final"]
            if args.include_normal:
                superposition.add(ticket)
        if args.save_tickets:
            save_member(run, tracker.folder, phase, ticket)
        run.phases_done += 1
        run.save(tracker.folder)
    ticket = run.superpose() if args.sup_tickets else take_ticket(run.model.state_dict(), run.masks)
    tracker.say(finish(run, tracker.folder, ticket))  # line 17
    tracker.close()


if __name__ == "__main__":
    with one_line_errors():
        main()
