"""Sparse training with tickets on ImageNet, or any folder of images (Yin et al., Sup-tickets, UAI 2022).

python main_imagenet.py --data-dir IMAGENET --sparse --method granet --density 0.1 --sup-tickets      Table 3
python main_imagenet.py --data-dir IMAGENET --eval-only --ticket runs/NAME/ticket.safetensors
accelerate launch main_imagenet.py --batch-size 256 --scale-lr --mixed-precision bf16 ...             several GPUs
"""

if __name__ == "__main__":  # before the imports below, which take seconds
    from utils.command_line.program import start

    start()

from pathlib import Path

import torch
from torch import nn

from main_cifar import train_all
from models.classifiers import build
from utils.command_line.errors import one_line_errors
from utils.command_line.options import ImageNetOptions
from utils.command_line.parser import parse
from utils.data.imagenet import load_imagenet
from utils.run_folder.tickets import load_ticket
from utils.training.build import make_accelerator
from utils.training.evaluation import evaluate
from utils.training.session import open_folder


def main() -> None:
    args = parse(ImageNetOptions, __doc__)
    accelerator = make_accelerator(args)
    folder = None if args.eval_only else open_folder(args, accelerator)
    data = load_imagenet(
        args.data,
        args.data_dir,
        accelerator.device,
        image_size=args.image_size,
        batch_size=args.batch_size,
        streaming=args.streaming,
        workers=args.workers,
        limit_train=args.limit_train,
        limit_test=args.limit_test,
        valid_fraction=args.valid_fraction,
        label_column=args.label_column,
    )

    def network() -> nn.Module:
        return build(args.model, data.num_classes, args.image_size, args.width)

    if folder is not None:
        return train_all(folder, accelerator, data, network)
    assert args.ticket is not None
    model = network()
    model.load_state_dict(load_ticket(Path(args.ticket), model.state_dict()))
    metrics = evaluate(accelerator, model.to(accelerator.device).to(memory_format=torch.channels_last), data.test)
    accelerator.print(", ".join(f"{name} {value:.4f}" for name, value in metrics.items()))


if __name__ == "__main__":
    with one_line_errors():
        main()
