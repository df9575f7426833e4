"""Command lines that are right."""

from utils.command_line.options import CifarOptions
from utils.command_line.parser import parse

SUP = ("--sparse", "--sup-tickets")
PROGRAMS = {  # and what must be given
    "main_cifar.py": "", "main_imagenet.py": "", "-m utils.evaluate": "--tickets A", "-m utils.benchmark": "",
    "-m utils.superpose": "--tickets A B", "-m utils.report": "A", "-m utils.pack": "A",
    "-m utils.picture": "density --runs A", "-m utils.export": "--ticket A",
}  # fmt: skip


def parsed(*argv: str) -> dict[str, object]:
    """{option of main_cifar.py: value}"""
    return vars(parse(CifarOptions, "", argv))
