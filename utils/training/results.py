"""What becomes of the models at the ends of phases, beside their superposition: measured, kept, in a checkpoint."""

from sparselearning.phases import Phase
from sparselearning.superposition import Ticket
from utils.run_folder.tickets import ticket_name
from utils.training.run import Run
from utils.training.tracker import Tracker


def measure(run: Run, phase: Phase, ticket: Ticket, tracker: Tracker) -> None:
    """Evaluate the model at the end of a phase. Raises UsageError where it has diverged."""
    results = run.results
    results["final"] = run.evaluate(ticket)
    if phase.ticket:
        results["tickets"].append(results["final"])
    elif phase is run.phases[0] and phase is not run.phases[-1]:
        results["explore" if phase.name == "explore" else "normal"] = results["final"]
    tracker.model(phase.name, run.step, results["final"], "tickets" if results["tickets"] else "to use")


def complete(run: Run, phase: Phase, ticket: Ticket, tracker: Tracker) -> None:
    """A phase is over: evaluate what is superposed so far, keep the ticket if asked to, write a checkpoint."""
    results = run.results
    if phase.ticket and run.superposition is not None:
        results["superposed"] = run.evaluate(run.superposed())
        tracker.model("superposed", run.step, results["superposed"], "to use")
    if run.options.save_tickets and phase.ticket:
        run.save_ticket(ticket_name(len(results["tickets"])), ticket, phase=phase.name)
    elif run.options.save_tickets and run.averages(phase):  # with --include-normal, the model before the first ticket
        run.save_ticket(f"tickets/{phase.name}.safetensors", ticket, phase=phase.name)
    run.phases_done += 1
    run.save()


def measure_ensemble(run: Run, tracker: Tracker) -> None:
    """Evaluate the kept tickets all together, where there are several."""
    if run.options.save_tickets and len(run.results["tickets"]) > 1:
        run.results["ensemble"] = run.evaluate_ensemble()
        tracker.model("ensemble", run.step, run.results["ensemble"], "none")
