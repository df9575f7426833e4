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
from utils.files import save_ticket
from utils.interruption import Interruption
from utils.output import RunFolder
from utils.run import Run
from utils.setup import make_accelerator, one_line_errors
from utils.summary import describe, finish, layer_table
from utils.tracking import Tracker
from utils.training import train


def main() -> None:
    args = parse(CIFAR, __doc__)
    accelerator, folder = make_accelerator(args), RunFolder(args)
    if folder.finished:
        return accelerator.print(f"{folder.path} holds this run, finished: nothing to resume")
    if accelerator.is_main_process:
        folder.check(args)
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
    run = Run(args, accelerator, build(args.model, data.num_classes), data)  # Algorithm 1, line 1
    plan = describe(run)
    if args.dry_run:
        return accelerator.print(plan, layer_table(run), sep="\n")
    if args.resume:
        plan += "\n" + run.resume(folder.path)
    if accelerator.is_main_process:
        folder.claim(args)

    tracker = Tracker(folder.path, args.epochs, run.plan[-1].end, run.step, accelerator.is_main_process)
    tracker.say(plan)
    interruption = Interruption(accelerator, args.checkpoint_minutes)
    superposition, results = run.superposition, run.results
    for phase in run.plan[run.phases_done :]:
        train(run, phase, tracker, interruption)  # lines 4, 6 and 7; at the start of a cycle 12 and 13
        ticket = take_ticket(run.model.state_dict(), run.masks)
        results["final"] = run.evaluate(data.test, ticket)
        tracker.model(phase.name, run.step, results["final"])
        if phase.ticket:  # line 8
            superposition.add(ticket)  # line 10, Eq. 4
            superposed = run.superpose()  # line 11
            results["tickets"].append(results["final"])
            results["superposed"] = run.evaluate(data.test, superposed)
            tracker.model("superposed", run.step, results["superposed"])
            if args.save_tickets and accelerator.is_main_process:
                number = superposition.tickets - args.include_normal
                save_ticket(folder.path / f"tickets/ticket-{number}.safetensors", ticket, {"ticket": number})
        elif args.sup_tickets:
            results["normal"] = results["final"]
            if args.include_normal:
                superposition.add(ticket)
        run.phases_done += 1
        run.save(folder.path)
    ticket = run.superpose() if args.sup_tickets else take_ticket(run.model.state_dict(), run.masks)
    if accelerator.is_main_process:
        tracker.say(finish(run, folder.path, ticket))  # line 17
    tracker.close()


if __name__ == "__main__":
    with one_line_errors():
        main()
