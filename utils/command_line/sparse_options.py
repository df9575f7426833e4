"""The options of sparse training, and of the tickets and ensembles that come out of a run."""

from dataclasses import dataclass

from sparselearning.averages import AVERAGES, PARAMETERS, PRUNINGS, option_name
from sparselearning.distributions import DISTRIBUTIONS, SCORED
from sparselearning.methods import DROP, GROWTH, METHODS
from sparselearning.phases import CYCLES
from utils.command_line.paths import place
from utils.command_line.rows import CLOSED, OPEN, TO_1, Group, Range, count, derived, option, with_options
from utils.command_line.run_options import EPOCHS, RATE

REGIMES = ("sup_tickets", "edst", "snapshot", "fge")  # switches for the phases of a run; without any, one normal phase
SPARSE, CYCLIC, SUP = ("sparse",), ("sup_tickets", "fge"), ("sup_tickets",)
GRADUAL, ONE_SHOT = (
    {"method": [name for name, method in METHODS.items() if method.pruning == pruning]}
    for pruning in ("gradual", "one-shot")
)
AFTER_PRUNING = dict.fromkeys(REGIMES, "whose own phases follow the pruning")


@dataclass(frozen=True, kw_only=True)
class SparseOptions(Group):
    """sparse training: Without --sparse the network is dense and the options below are refused."""

    sparse: bool = option(False, "train a sparse network")
    method: str = option("rigl", "how connections are chosen and moved", choices=METHODS, needs=SPARSE)
    density: float = option(0.05, "fraction of convolution and linear weights that is kept", metavar="D", fits=TO_1,
                            needs=SPARSE)  # fmt: skip
    init_density: float | None = option(None, "granet: the density it starts from", metavar="D", fits=TO_1,
                                        needs=SPARSE, only=GRADUAL)  # fmt: skip
    sparse_init: str | None = option(
        None, "which connections exist at first: at random, or by SNIP's scores, of all layers together or of each "
        "(the method's: erk; uniform for snfs and dsr; snip)", choices=(*DISTRIBUTIONS, *SCORED), needs=SPARSE,
        idle={"rewind": "which says which connections exist: leave one out"})  # fmt: skip
    update_frequency: int | None = option(
        None, "optimizer steps between topology updates, ΔT (--update-limit, or a twentieth of the normal phase where "
        "that is less)", metavar="STEPS", fits=count(10**9), needs=SPARSE)  # fmt: skip
    update_limit: int = option(1000, "the longest ΔT without --update-frequency", metavar="STEPS", fits=count(10**9),
                               needs=SPARSE)  # fmt: skip
    prune_rate: float = derived(lambda options: METHODS[options.method].prune_rate, "part of a layer's connections "
                                "exchanged per update, p (0.5; dsr 0.08)", metavar="P", fits=CLOSED,
                                needs=SPARSE)  # fmt: skip
    prune_rate_decay: str = option("constant", "how p falls over a phase", choices=("constant", "cosine", "linear"),
                                   needs=SPARSE)  # fmt: skip
    growth: str | None = option(
        None, "score by which connections grow (the method's; static, snip, gmp and pf grow only at the start of a "
        "cycle: by gradient, or none)", choices=(*GROWTH, "none"), needs=SPARSE)  # fmt: skip
    prune_end: float = option(110 / 250, "granet, gmp: part of the run after which the final density is reached, with "
                              "the next topology update", metavar="F", fits=TO_1, needs=SPARSE,
                              only=GRADUAL)  # fmt: skip
    fine_tune_epochs: int | None = option(None, "pf: epochs after pruning (half of them all)", metavar="N",
                                          fits=EPOCHS, needs=SPARSE, only=ONE_SHOT, idle=AFTER_PRUNING)  # fmt: skip
    fine_tune_lr: float = option(0.001, "pf: learning rate after pruning", metavar="LR", fits=RATE, needs=SPARSE,
                                 only=ONE_SHOT, idle=AFTER_PRUNING)  # fmt: skip
    rewind: str | None = option(None, "lottery ticket rewinding: start from the connections of this run's ticket, "
                                "and from its weights of --save-early", metavar="RUN", read=place,
                                needs=SPARSE)  # fmt: skip
    sparse_kernels: bool = option(
        False, "on a CPU, in float32: do not compute absent connections, which is faster at 80 %% sparsity and above; "
        "the same training but for rounding", needs=SPARSE,
        idle={"compile": "which makes kernels of its own: choose one"})  # fmt: skip
    exempt: tuple[str, ...] = option((), "weights to leave dense, by name: 'classifier.*'", metavar="PATTERN",
                                     needs=SPARSE)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class TicketOptions(Group):
    """Sup-tickets: The end of the run in short cycles: explore once, train, take a ticket; superpose them."""

    sup_tickets: bool = option(False, "end with cheap tickets and superpose them", needs=SPARSE)
    cycle_epochs: int = option(8, "length of a cycle", metavar="C", fits=EPOCHS, needs=CYCLIC)
    ticket_fraction: float | None = option(None, "part of the epochs for cycles, rounded down to whole cycles; 0.1 "
                                           "without", metavar="F", fits=OPEN, needs=CYCLIC)  # fmt: skip
    num_tickets: int | None = option(None, "number of tickets (as many cycles as fit the fraction; edst 3, snapshot "
                                     "12, fge 5)", metavar="M", fits=count(1000), needs=REGIMES)  # fmt: skip
    explore_rate: float = option(0.5, "part of the connections exchanged at a cycle's start", metavar="P", fits=CLOSED,
                                 needs=SUP)  # fmt: skip
    explore_drop: tuple[str, ...] = option((), "whose magnitude goes then; several take turns with the cycles",
                                           choices=DROP, needs=SUP)  # fmt: skip
    explore_growth: tuple[str, ...] = option((), "and by which score connections come (--growth, else the method's); "
                                             "likewise", choices=(*GROWTH, "none"), needs=SUP)  # fmt: skip
    cycle_lr: str = option("triangle", "learning rate of a cycle: up and down; down and up, with the ticket between; "
                           "or up at once and down", choices=CYCLES, needs=SUP)  # fmt: skip
    lr_low: float = option(0.001, "learning rate at both ends of a cycle", metavar="LR", fits=RATE, needs=CYCLIC)
    lr_high: float = option(0.005, "learning rate in the middle of a cycle", metavar="LR", fits=RATE, needs=CYCLIC)
    include_normal: bool = option(False, "average the model at the end of the normal phase in too, as the released "
                                  "code does", needs=SUP)  # fmt: skip
    save_tickets: bool = option(False, "keep each ticket as tickets/ticket-N.safetensors, and evaluate their ensemble",
                                needs=REGIMES)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
@with_options({
    option_name(name): option(parameter.default, f"{method}: {parameter.meaning}", metavar="N",
                               fits=Range(parameter.fits, parameter.words), needs=(f"superpose {method}",))
    for name, (method, parameter) in PARAMETERS.items()
})  # fmt: skip
class AveragingOptions(Group):
    """superposition: How the tickets become one, and what it is made of."""

    superpose: str = option("cia", "averaging: connection independent, aware, or moving", choices=AVERAGES, needs=SUP)
    prune_average: str = option("every", "back to the density: after every averaging, and the next goes on from there, "
                                "as in the papers; or only the last, of the plain mean", choices=PRUNINGS,
                                needs=SUP)  # fmt: skip
    bn: str = option("average", "batch-norm statistics of the superposed ticket: mean and variance averaged, or one "
                     "more pass over the training data, as in SWA", choices=("average", "recompute"),
                     needs=SUP)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class EnsembleOptions(Group):
    """ensembles: Tickets whose predictions are averaged. They are kept, and summary.json has test.ensemble."""

    edst: bool = option(False, "FreeTickets in one run: explore, then refine again and again, a ticket each time",
                        needs=SPARSE, brings={"num_tickets": 3, "save_tickets": True})  # fmt: skip
    exploration_epochs: int = option(150, "length of the exploration phase", metavar="N", fits=EPOCHS, needs=("edst",))
    refine_epochs: int = option(100, "length of each refinement", metavar="N", fits=EPOCHS, needs=("edst",))
    global_explore_rate: float = option(0.8, "part of the connections exchanged between refinements", metavar="Q",
                                        fits=CLOSED, needs=("edst",))  # fmt: skip
    # what the papers change for dense networks is that of WRN-28-10 in FreeTickets, Table 6
    snapshot: bool = option(False, "dense: the run in cosine cycles, a ticket after each (Huang et al. 2017)",
                            brings={"epochs": 200, "num_tickets": 12, "save_tickets": True})  # fmt: skip
    fge: bool = option(False, "dense: the end of the run in cycles, a ticket in each (Garipov et al. 2018)",
                       brings={"epochs": 200, "cycle_epochs": 4, "num_tickets": 5, "lr_low": 5e-4, "lr_high": 0.05,
                               "save_tickets": True})  # fmt: skip
    ensemble: int | None = option(None, "train M independent runs and evaluate the ensemble of their tickets (with "
                                  "rigl: FreeTickets' DST ensemble)", metavar="M",
                                  fits=Range(lambda v: v >= 2, "at least 2", 1000))  # fmt: skip
