"""Sparse training with tickets on ImageNet, or any folder of images (Yin et al., Sup-tickets, UAI 2022).

python main_imagenet.py --data-dir IMAGENET --sparse --method granet --density 0.1 --sup-tickets      Table 3
python main_imagenet.py --data-dir IMAGENET --eval-only --ticket runs/NAME/ticket.safetensors
accelerate launch main_imagenet.py --batch-size 256 --scale-lr --mixed-precision bf16 ...             several GPUs
"""

from utils.command_line.options import ImageNetOptions, Options
from utils.command_line.parser import parse
from utils.command_line.program import start

if __name__ == "__main__":  # a mistake is answered before the imports below, which take seconds
    start()
    OPTIONS = parse(ImageNetOptions, __doc__)

import copy
from contextlib import closing
from pathlib import Path

import torch
from accelerate import Accelerator

from sparselearning import Masking, Superposition, sparse_training, take_ticket
from utils.command_line.errors import one_line_errors
from utils.data.imagenet import load_imagenet
from utils.data.protocol import Splits
from utils.reporting.begin import begin
from utils.reporting.ensemble import finish_ensemble
from utils.reporting.summary import finish
from utils.run_folder.folder import RunFolder, open_folder
from utils.run_folder.tickets import load_ticket
from utils.training.batches import make_batches
from utils.training.build import (
    averaging,
    compile_model,
    make_accelerator,
    make_network,
    make_optimizer,
    make_teachers,
    masking_arguments,
    rewound_epochs,
    snip_batches,
)
from utils.training.costs import Costs
from utils.training.evaluation import evaluate
from utils.training.interruption import Interruption
from utils.training.loop import train
from utils.training.plan import make_plan
from utils.training.results import complete, measure, measure_ensemble
from utils.training.run import Run


def main(options: ImageNetOptions) -> None:
    accelerator = make_accelerator(options)
    folder = None if options.eval_only else open_folder(options, accelerator)
    data = load_imagenet(
        options.data, options.data_dir, accelerator.device, image_size=options.image_size,
        batch_size=options.batch_size,
        streaming=options.streaming,
        workers=options.workers,
        limit_train=options.limit_train,
        limit_test=options.limit_test,
        valid_fraction=options.valid_fraction,
        label_column=options.label_column,
    )  # fmt: skip
    if folder is None:
        return evaluate_ticket(options, accelerator, data)
    for member in folder.unfinished():  # the run itself; with --ensemble those of Algorithm 2 of FreeTickets
        algorithm_1(member.options, accelerator, data, member)
        if options.ensemble:
            accelerator.free_memory()  # for the next
    if options.ensemble:
        model = make_network(options, data)
        accelerator.print(finish_ensemble(folder, accelerator, model, data.test))


def evaluate_ticket(options: ImageNetOptions, accelerator: Accelerator, data: Splits) -> None:
    """--eval-only: print the metrics of --ticket on the test images."""
    assert options.ticket is not None  # as `parse` checks
    model = make_network(options, data)
    model.load_state_dict(load_ticket(Path(options.ticket), model.state_dict()))
    metrics = evaluate(accelerator, model.to(accelerator.device).to(memory_format=torch.channels_last), data.test)
    accelerator.print(", ".join(f"{name} {value:.4f}" for name, value in metrics.items()))


def algorithm_1(options: Options, accelerator: Accelerator, data: Splits, folder: RunFolder) -> None:
    """Algorithm 1 of Sup-tickets. The other regimes have other phases and superpose nothing."""
    torch.manual_seed(options.seed)  # for the weights; everything else draws from generators of its own
    model = make_network(options, data).to(accelerator.device).to(memory_format=torch.channels_last)
    test_model, teachers = copy.deepcopy(model), make_teachers(options.distill, model)
    batches = make_batches(options, model, len(data.train), accelerator.num_processes)
    phases = make_plan(options, batches.steps, batches.size)
    optimizer = make_optimizer(options, model, accelerator)

    masking = superposition = None
    if options.sparse:
        arguments = masking_arguments(options, model, phases, batches.steps)
        masking = Masking(model, optimizer, **arguments, snip_batches=snip_batches(data.train))  # line 1
        if options.sparse_kernels:
            sparse_training(masking)
        if options.sup_tickets:
            method, prune = options.superpose, options.prune_average
            superposition = Superposition(masking.masks, masking.target_nnz, method, prune, **averaging(options))
    costs = Costs(model, masking, (3, data.train.side, data.train.side), teachers, rewound_epochs(options.rewind),
                  options.batch_repetitions or 1)  # fmt: skip

    if options.compile:
        compile_model(model, accelerator.device, batches.parts)
    model, optimizer = accelerator.prepare(model, optimizer)
    run = Run(options, accelerator, data, folder.path, phases, batches, model, optimizer, masking, superposition,
              test_model, teachers, costs)  # fmt: skip

    with closing(begin(run, folder)) as tracker, Interruption(accelerator, options.checkpoint_minutes) as interruption:
        for phase in run.phases[run.phases_done :]:
            train(run, phase, tracker, interruption)  # lines 2 to 7; a cycle begins with lines 12 and 13
            ticket = take_ticket(run.model.state_dict(), run.masks)
            measure(run, phase, ticket, tracker)
            if superposition is not None and run.averages(phase):  # line 8
                superposition.add(ticket)  # lines 9 to 11, Eq. 4
            complete(run, phase, ticket, tracker)
            del ticket  # the next phase needs the room
        measure_ensemble(run, tracker)
        ticket = run.superposed() if superposition is not None else take_ticket(run.model.state_dict(), run.masks)
        run.save_ticket("ticket.safetensors", ticket)  # line 17
        finish(run, ticket, tracker)


if __name__ == "__main__":
    with one_line_errors():
        main(OPTIONS)
