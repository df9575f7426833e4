"""Command lines of main_cifar.py that are right."""

from utils.command_line.options import CifarOptions
from utils.command_line.parser import parse

SUP = ("--sparse", "--sup-tickets")


def parsed(*argv: str) -> dict[str, object]:
    """{option: value}"""
    return vars(parse(CifarOptions, "", argv))
