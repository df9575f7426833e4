"""Masking: the masks of a model and what moves them, in any training loop."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple

import torch
from torch import Tensor, nn

from sparselearning.closures import followed_by
from sparselearning.connections import Connections
from sparselearning.coverage import warn_of_dense
from sparselearning.distributions import total_count
from sparselearning.errors import UsageError, shown
from sparselearning.exploration import explored, next_threshold
from sparselearning.initialization import initial_masks
from sparselearning.layers import maskable_weights, torch_optimizer, unwrap
from sparselearning.movement import Movement
from sparselearning.phases import Exploration
from sparselearning.topology import Topology, pruned
from sparselearning.validation import MaskingState, check_phase, check_weights, checked_state


class Masking(Movement, Connections):
    """Keeps a network sparse and moves its connections, by hooks on the optimizer; the training loop stays as it is.

        masking = Masking(model, optimizer, method="rigl", density=0.1)
        for x, y in loader:
            loss_fn(model(x), y).backward()
            optimizer.step()         # every `update_frequency` steps this also moves connections
            optimizer.zero_grad()

    In a step, the gradients of inactive weights are cleared before the optimizer sees them and the inactive weights
    after it, so momentum, weight decay and any optimizer leave them at zero; on a step that moves connections the
    dense gradients are set aside first, for growth to read. Steps that a gradient scaler skips count for nothing. A
    grown weight starts with the optimizer's initial state, so Adam's first step for it is up to (1 − β₁)/√(1 − β₂) =
    3.2 learning rates long. A layer without a gradient keeps its connections, but for pruning, which goes by
    magnitude alone.

    Model, optimizer and masking may be built and loaded in any order before the first step.

    Args:
        model: any module; DDP, compiled and Fabric's ones are unwrapped. FSDP and DeepSpeed shard weights and are
            refused.
        optimizer: a torch optimizer that holds the model's weights, or a wrapper with an `.optimizer`. Tested: all of
            torch.optim but SparseAdam; LBFGS only where no connections move; Muon with `exempt` for all that it does
            not hold.
        method: a row of `METHODS`.
        density: the fraction of maskable weights that is kept, in (0, 1]; or by layer, {shell pattern of parameter
            names: density}, the first that fits, for methods that leave the layers' densities as they are.
        init_density: where methods that prune start (the method's).
        sparse_init: `erk`, `er`, `uniform`, `snip` or `snip-layerwise` (the method's), or the masks themselves by
            parameter name.
        update_frequency: ΔT, optimizer steps between topology updates.
        prune_rate: p, the fraction of a layer's connections that is exchanged in an update (the method's).
        prune_rate_decay: `constant`, `cosine` or `linear`, to 0 at `total_steps`.
        growth: `gradient`, `random`, `momentum` (the method's), or `none` for methods that move nothing.
        prune_start, prune_end: the steps between which gradual pruning goes from `init_density` to `density`; one-shot
            pruning happens at `prune_end`.
        total_steps: length of the run; no connection moves at its last step, with no training after.
        exempt, include: shell patterns of parameter names that stay dense and do not count, or are masked beside the
            weights of convolutions and linear layers (see `layers.maskable_weights`).
        snip_batches: for SNIP, batches (inputs, labels) on the model's device; read on the first process alone.
        seed: of the random choices; equal on all processes.

    Attributes:
        updates: of the topology; `dropped` and `grown` connections.
        threshold: of DSR, below which weights are dropped.
        masks, active, ever_active: see `Connections`; `step`, `target_nnz`, `density`, `window`: see `Movement`.

    Raises:
        UsageError: the arguments do not fit each other or the model; the message says what would.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: object,
        method: str = "rigl",
        density: float | Mapping[str, float] = 0.05,
        *,
        init_density: float | None = None,
        sparse_init: str | Mapping[str, Tensor] | None = None,
        update_frequency: int = 1000,
        prune_rate: float | None = None,
        prune_rate_decay: str = "constant",
        growth: str | None = None,
        prune_start: int = 0,
        prune_end: int | None = None,
        total_steps: int | None = None,
        exempt: Sequence[str] = (),
        include: Sequence[str] = (),
        snip_batches: Iterable[tuple[Tensor, Tensor]] | None = None,
        seed: int = 0,
    ) -> None:
        inner = unwrap(model)
        weights = maskable_weights(inner, exempt, include)
        check_weights(weights)
        Movement.__init__(
            self, {name: weight.shape for name, weight in weights.items()}, method, density, init_density,
            update_frequency, prune_rate, prune_rate_decay, growth, prune_start, prune_end, total_steps, seed,
        )  # fmt: skip
        held_by = torch_optimizer(optimizer, weights)
        owners = [getattr(hook, "__self__", None) for hook in held_by._optimizer_step_pre_hooks.values()]
        if any(isinstance(owner, Masking) for owner in owners):
            raise UsageError("the optimizer has a Masking already: take that off first with its remove()")
        init = self.method.sparse_init if sparse_init is None else sparse_init
        masks = initial_masks(inner, weights, init, self.first_density, seed, snip_batches)
        Connections.__init__(self, inner, weights, held_by, masks, self.tracks_momentum)
        warn_of_dense(inner, weights, exempt)
        self.updates = self.dropped = self.grown = 0
        self.threshold = self.method.threshold
        self._hooks = [
            self.optimizer.register_step_pre_hook(self._before_step),
            self.optimizer.register_step_post_hook(self._after_step),
            self.optimizer.register_load_state_dict_post_hook(self.optimizer_loaded),
        ]

    # ---- the hooks -------------------------------------------------------------------------------------------------

    def _before_step(
        self, optimizer: torch.optim.Optimizer, args: tuple[object, ...], kwargs: dict[str, object]
    ) -> tuple[tuple[object, ...], dict[str, object]] | None:
        if getattr(optimizer, "found_inf", None) is not None:
            raise UsageError("a fused optimizer hides which steps a gradient scaler skips: build it with fused=False")
        closure = args[1] if len(args) > 1 else kwargs.get("closure")
        if not callable(closure):
            self._prepare_gradients()
            return None
        return (optimizer, followed_by(closure, self._prepare_gradients, self.moves, optimizer)), {}

    def _prepare_gradients(self) -> None:
        """Called in a step that is not skipped, once its gradients are complete and before the optimizer reads them."""
        due = self.update_due(self.step + 1)
        self.check_unchanged(moving=due or self._exploration is not None)
        self.track_momentum()
        if self._exploration is not None:
            self.update_topology(*astuple(self._exploration))
            self._exploration = None
        self.clear_gradients(keep=due)

    def _after_step(self, *_: object) -> None:
        self.step += 1
        if self.update_due(self.step):
            self.update_topology(self.rate_at(self.step), self.growth)
        else:
            self.clear_weights()

    # ---- moving connections ----------------------------------------------------------------------------------------

    def begin_phase(
        self, start: int, end: int | None, *, updates: bool = True, explore: Exploration | None = None
    ) -> None:
        """A phase of the run goes from step `start` to step `end`, exclusive; say so before its first step.

            masking.begin_phase(masking.step, masking.step + 500, updates=False, explore=Exploration(0.5))  # a cycle

        Args:
            updates: do connections move every ΔT, counted from `start`, and does p decay to `end`?
            explore: the exploration with which it begins; not again where a resumed run is past `start`.
        """
        check_phase(start, end)
        if explore is not None and not isinstance(explore, Exploration):
            raise UsageError(f"explore {shown(explore)} is not an Exploration(rate, growth, drop)")
        self.window = (start, end if updates else start)
        if explore is not None and self.step == start:
            self.explore(explore.rate, explore.growth, explore.drop)

    def explore(self, rate: float, growth: str | None = None, drop: str = "smallest") -> None:
        """Let the next optimizer step begin with one exploration: drop and grow once at `rate`, by its own gradient.

        This is the parameter exploration at the start of a cycle (Sup-tickets §3.2.1; FreeTickets' global one with
        rate q): after the ticket before it was taken, and trained on from the very same step. With growth `none` it
        does nothing.

        Args:
            growth: a row of GROWTH (the method's).
            drop: a row of DROP: whose magnitude goes, the `smallest` or, for tickets of high variance (Table 11), the
                `largest`.
        """
        growth = self.exploration_growth if growth is None else growth
        if not self._hooks:
            raise UsageError("this Masking was taken off its optimizer by remove(): no step of it will explore")
        self.check_exploration(rate, growth, drop)
        self._exploration = None if growth == "none" else Exploration(rate, growth, drop)

    @torch.no_grad()
    def update_topology(self, rate: float, growth: str | None, drop: str | None = None) -> None:
        """Prune to the density of the moment, then explore once, with growth None not.

        Args:
            rate, growth: as in `explore`.
            drop: a row of DROP; None: as the method does, of the smallest or, as DSR, what is below its threshold.
        """
        topology, before = self.topology, self.nnz
        if self.method.pruning is not None:
            topology = pruned(topology, self.weights, self.count_at(self.step))
            self.dropped += before - topology.nnz
        if growth is not None:
            topology = self._explored(topology, rate, growth, drop)
        self.updates += 1
        self.set_topology(topology)

    def _explored(self, topology: Topology, rate: float, growth: str, drop: str | None) -> Topology:
        self.check_exploration(rate, growth, "smallest" if drop is None else drop)
        layers = self.layers(topology, key=(self.seed, self.updates))
        if not layers:
            return topology
        threshold = self.threshold if drop is None else None
        part = topology.only(layers)
        part, moved = explored(part, layers, self.method, rate, growth, drop or "smallest", threshold)
        self.dropped += moved
        self.grown += moved
        if threshold is not None:
            self.threshold = next_threshold(threshold, rate, part.nnz, moved)
        return topology.with_layers(part)

    # ---- state -----------------------------------------------------------------------------------------------------

    def remove(self) -> None:
        """Take the hooks off the optimizer; the weights stay as they are and are free from now on."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = []

    def state_dict(self) -> MaskingState:
        """Everything that the next step depends on and the arguments do not say."""
        return {
            "method": self.method.title, "target": self.target_nnz,
            "exploration": None if self._exploration is None else astuple(self._exploration),
            "nonzeros": self.nonzeros(),
            "masks": self.masks, "explored": self.ever_active, "dense_momentum": self.dense_momentum,
            "step": self.step, "updates": self.updates, "dropped": self.dropped, "grown": self.grown,
            "window": self.window, "threshold": self.threshold,
        }  # fmt: skip

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """Restore a state in place, before or after those of the model and the optimizer.

        Raises:
            UsageError: it belongs to another model, method or density; then nothing is changed. At the next step,
                where weights that its connections need are lost.
        """
        saved = checked_state(state, self.state_dict(), total_count(self.shapes, self.init_density))
        if saved["exploration"] is not None:
            self.check_exploration(*saved["exploration"])
        self.load_tensors(saved)
        self.step, self.updates, self.dropped = saved["step"], saved["updates"], saved["dropped"]
        self.grown, self.window, self.threshold = saved["grown"], saved["window"], saved["threshold"]
        self._exploration = saved["exploration"] and Exploration(*saved["exploration"])
