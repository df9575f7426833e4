"""Ensembles of independent runs (FreeTickets, Algorithm 2)."""

from accelerate import Accelerator
from torch import nn

from utils.data.protocol import Images
from utils.files.whole import write_json
from utils.reporting.summary import closing_table
from utils.run_folder.contents import Summary
from utils.run_folder.finished import read_summary
from utils.run_folder.folder import RunFolder
from utils.training.costs import together
from utils.training.evaluation import evaluate_tickets


def finish_ensemble(folder: RunFolder, accelerator: Accelerator, model: nn.Module, images: Images) -> str:
    """Evaluate the ensemble of the runs of --ensemble and write its summary.json; returns the closing table.

    Members stand under `tickets` with the metrics of each run's ticket to use; `nnz` is that of one
    member, FLOPs and time are those of all.
    """
    paths = [member.path for member in folder.members()]
    summaries = [read_summary(path / "summary.json") for path in paths]
    tickets = [path / "ticket.safetensors" for path in paths]
    ensemble = evaluate_tickets(accelerator, model.to(accelerator.device), tickets, images)
    if not accelerator.is_main_process:
        return ""
    members = [summary["test"].get("superposed", summary["test"]["final"]) for summary in summaries]
    summary: Summary = {
        **summaries[0],
        "seed": folder.options.seed,
        "ensemble": len(paths),
        "test": {"tickets": members, "final": members[-1], "ensemble": ensemble},
        "flops": together([summary["flops"] for summary in summaries]),
        "train_seconds": sum(summary["train_seconds"] for summary in summaries),
    }
    write_json(folder.path / "summary.json", summary)
    return closing_table(summary) + f"\n{folder.path}/ holds summary.json, and a folder for each run"
