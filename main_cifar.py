"""Sparse training with tickets on CIFAR-10 and CIFAR-100 (Yin et al., Sup-tickets, UAI 2022).

python main_cifar.py --sparse --method granet --density 0.05 --sup-tickets     the paper's run of Table 1
python main_cifar.py --sparse --method rigl --density 0.05                     the same run without tickets
python main_cifar.py --data digits --model resnet20 --epochs 20                a minute on a CPU, dense
accelerate launch main_cifar.py ...                                            on several GPUs
"""

import torch

from models import build
from sparselearning import take_ticket
from utils.arguments import CIFAR, parse
from utils.data import load_cifar
from utils.output import RunFolder
from utils.report import describe, finish
from utils.setup import make_accelerator, one_line_errors
from utils.tracking import Tracker
from utils.training import Trainer


def main() -> None:
    args = parse(CIFAR, __doc__)
    with one_line_errors():
        accelerator = make_accelerator(args)
        folder = RunFolder(args)
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
        trainer = Trainer(args, accelerator, build(args.model, data.num_classes), data)  # Algorithm 1, line 1
        if args.dry_run:
            return print(describe(trainer))
        if accelerator.is_main_process:
            folder.claim(args)

    tracker = Tracker(folder.path, trainer.plan[-1].end, trainer.step, trainer.history, accelerator.is_main_process)
    tracker.say(describe(trainer))
    masks = trainer.masking.masks if trainer.masking else {}
    superposition, results = trainer.superposition, trainer.results
    for phase in trainer.plan[trainer.phases_done :]:
        trainer.train(phase, tracker)  # lines 4, 6 and 7; at the start of a cycle 12 and 13
        ticket = take_ticket(trainer.model.state_dict(), masks)
        results["final"] = trainer.evaluate(data.test, ticket)
        tracker.model(phase.name, trainer.step, results["final"])
        if phase.ticket:  # line 8
            superposition.add(ticket)  # line 10, Eq. 4
            results["tickets"].append(results["final"])
            superposed = trainer.superpose()  # line 11
            results["superposed"] = trainer.evaluate(data.test, superposed)
            tracker.model("superposed", trainer.step, results["superposed"])
            if args.save_tickets and accelerator.is_main_process:
                folder.save_ticket(f"tickets/ticket-{superposition.tickets}", ticket)
        elif args.sup_tickets:
            results["normal"] = results["final"]
            if args.include_normal:
                superposition.add(ticket)
        trainer.phases_done += 1
    if accelerator.is_main_process:
        tracker.say(finish(trainer, folder))  # line 17
    tracker.close()


if __name__ == "__main__":
    main()
