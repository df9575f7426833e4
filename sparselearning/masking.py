"""Masking: the masks of a model and what moves them, in anybody's training loop."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sparselearning import distributions, schedules
from sparselearning.errors import UsageError, choose
from sparselearning.exploration import explore, prune
from sparselearning.initialization import initial_masks
from sparselearning.layers import clear_, maskable_weights, torch_optimizer, unwrap
from sparselearning.methods import METHODS
from sparselearning.validation import check_arguments, check_exploration

_TENSORS = ("masks", "explored", "dense_momentum")
_NUMBERS = ("step", "updates", "dropped", "grown", "window", "threshold")
_MOMENTUM = 0.9  # of the dense gradient, as in SNFS


class Masking:
    """Keeps a network sparse and moves its connections, by hooks on the optimizer; the training loop stays as it is.

        masking = Masking(model, optimizer, method="rigl", density=0.1)
        for x, y in loader:
            loss_fn(model(x), y).backward()
            optimizer.step()         # every `update_frequency` steps this also moves connections
            optimizer.zero_grad()

    In a step, the gradients of inactive weights are cleared before the optimizer sees them and the inactive weights
    after it, so momentum, weight decay and any optimizer leave them at zero; on a step that moves connections they
    stay dense, for growth to read. Steps that a gradient scaler skips count for nothing. A grown weight starts with
    zero optimizer state, so Adam's first step for it is up to (1 − β₁)/√(1 − β₂) = 3.2 learning rates long.

    Args:
        model: any module; DDP and compiled ones are unwrapped. FSDP and DeepSpeed shard weights and are refused.
        optimizer: any torch optimizer (or a wrapper with an `.optimizer`) that holds the model's weights.
        method: a row of `METHODS`.
        density: the fraction of maskable weights that is kept, in (0, 1].
        init_density: where methods that prune start (the method's).
        sparse_init: `erk`, `er`, `uniform` or `snip` (the method's), or the masks themselves by parameter name.
        update_frequency: ΔT, optimizer steps between topology updates.
        prune_rate: p, the fraction of a layer's connections that is exchanged in an update.
        prune_rate_decay: `constant`, `cosine` or `linear`, to 0 at `total_steps`.
        growth: `gradient`, `random`, `momentum` (the method's), or `none` for methods that move nothing.
        prune_start, prune_end: the steps between which gradual pruning goes from `init_density` to `density`; one-shot
            pruning happens at `prune_end`.
        total_steps: length of the run; no connection moves at its last step, with no training after.
        exempt: shell patterns of parameter names that stay dense and do not count.
        snip_batches: for SNIP, batches (inputs, labels) on the model's device.
        seed: of the random choices; equal on all processes.

    Attributes:
        masks: {parameter name: bool tensor of the parameter's shape}; changed in place.
        explored: likewise, every connection that was ever active (in-time over-parameterization, Liu et al. 2021).
        active: {parameter name: its number of active weights}.
        step: optimizer steps that really happened; `updates` those of the topology, `dropped` and `grown` connections.
        window: the steps (first, last) of a phase, the whole run unless set: connections move every ΔT after its first
            and before its last, and p decays over it.
        threshold: of DSR, below which weights are dropped.

    Raises:
        UsageError: the arguments do not fit each other or the model; the message says what would.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Any,
        method: str = "rigl",
        density: float = 0.05,
        *,
        init_density: float | None = None,
        sparse_init: str | Mapping[str, Tensor] | None = None,
        update_frequency: int = 1000,
        prune_rate: float = 0.5,
        prune_rate_decay: str = "constant",
        growth: str | None = None,
        prune_start: int = 0,
        prune_end: int | None = None,
        total_steps: int | None = None,
        exempt: Sequence[str] = (),
        snip_batches: Iterable[tuple[Tensor, Tensor]] | None = None,
        seed: int = 0,
    ) -> None:
        self.method = choose("method", method, METHODS)
        self.weights = maskable_weights(unwrap(model), exempt)
        self.optimizer = torch_optimizer(optimizer, self.weights)
        self.shapes = {name: tuple(weight.shape) for name, weight in self.weights.items()}
        self.total = sum(weight.numel() for weight in self.weights.values())
        self.density = density
        self.target = distributions.total_count(self.shapes, density)
        self.init_density = density
        if self.method.pruning is not None:
            self.init_density = self.method.init_density if init_density is None else init_density
        self.update_frequency = update_frequency
        self.prune_rate, self.prune_rate_decay = prune_rate, prune_rate_decay
        self.prune_start, self.prune_end = prune_start, prune_end
        self.total_steps, self.window = total_steps, (0, total_steps)
        self.growth = self.method.growth if growth is None or self.method.growth is None else growth
        self.exploration_growth = growth or self.method.growth or "gradient"
        self.seed = seed
        self.step = 0
        self.updates = self.dropped = self.grown = 0
        self.threshold = self.method.threshold
        self._exploration: tuple[float, str | None, str] | None = None
        check_arguments(self)

        tracked = "momentum" in (self.exploration_growth, self.method.redistribution)
        self.dense_momentum = {name: torch.zeros_like(w) for name, w in self.weights.items() if tracked}
        init = sparse_init or self.method.sparse_init
        self.masks = initial_masks(unwrap(model), self.weights, init, self.init_density, seed, snip_batches)
        self.explored = {name: mask.clone() for name, mask in self.masks.items()}
        self.active = self._count_active()
        self._clear_inactive_weights()
        self._hooks = [
            self.optimizer.register_step_pre_hook(self._before_step),
            self.optimizer.register_step_post_hook(self._after_step),
        ]

    # ---- the hooks -------------------------------------------------------------------------------------------------

    def _before_step(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> Any:
        if getattr(optimizer, "found_inf", None) is not None:
            raise UsageError("a fused optimizer hides which steps a gradient scaler skips: build it with fused=False")
        closure = args[1] if len(args) > 1 else kwargs.get("closure")
        if closure is None:
            return self._meet_gradients()

        def masked() -> Any:
            loss = closure()
            self._meet_gradients()
            return loss

        return (optimizer, masked), {}

    @torch.no_grad()
    def _meet_gradients(self) -> None:
        """The gradients of a step that will happen are there, whole and unscaled, and not yet used."""
        for name, momentum in self.dense_momentum.items():
            gradient = self.weights[name].grad
            if gradient is not None:
                momentum.mul_(_MOMENTUM).add_(gradient)
        if self._exploration is not None:
            self.update_topology(*self._exploration)
            self._exploration = None
        if not self._update_due(self.step + 1):
            for name, weight in self.weights.items():
                if weight.grad is not None:
                    clear_(weight.grad, self.masks[name])

    def _after_step(self, *_: Any) -> None:
        self.step += 1
        if self._update_due(self.step):
            start, end = self.window
            length = None if end is None else end - start
            rate = schedules.prune_rate(self.step - start, length, self.prune_rate, self.prune_rate_decay)
            self.update_topology(rate, self.growth)
        else:
            self._clear_inactive_weights()

    def _update_due(self, step: int) -> bool:
        if self.method.pruning == "one-shot":
            return step == self.prune_end
        start, end = self.window
        moves = self.growth is not None or self.method.pruning is not None
        return moves and step > start and (step - start) % self.update_frequency == 0 and (end is None or step < end)

    @torch.no_grad()
    def _clear_inactive_weights(self) -> None:
        for name, weight in self.weights.items():
            clear_(weight, self.masks[name])

    @torch.no_grad()
    def clip_grad_norm_(self, parameters: Iterable[nn.Parameter], max_norm: float) -> Tensor:
        """As `torch.nn.utils.clip_grad_norm_`, but the norm is that of the sub-network; returns it."""
        parameters = list(parameters)
        masks = {id(weight): self.masks[name] for name, weight in self.weights.items()}
        gradients = [(masks.get(id(p)), p.grad) for p in parameters if p.grad is not None]
        norm = nn.utils.get_total_norm([g if mask is None else torch.where(mask, g, 0) for mask, g in gradients])
        nn.utils.clip_grads_with_norm_(parameters, max_norm, norm)
        return norm

    # ---- moving connections ----------------------------------------------------------------------------------------

    def explore(self, rate: float, growth: str | None = None, drop: str = "smallest") -> None:
        """Let the next optimizer step begin with one exploration: drop and grow once at `rate`, by its own gradient.

        This is the parameter exploration at the start of a cycle (Sup-tickets §3.2.1; FreeTickets' global one with
        rate q): after the ticket before it was taken, and trained on from the very same step. With growth `none` it
        does nothing.

        Args:
            growth: a row of GROWTH (the method's).
            drop: whose magnitude goes, the `smallest` or, for tickets of high variance (Table 11), the `largest`.
        """
        growth = growth or self.exploration_growth
        check_exploration(self, rate, growth, drop)
        self._exploration = None if growth == "none" else (rate, growth, drop)

    @torch.no_grad()
    def update_topology(self, rate: float, growth: str | None, drop: str = "smallest") -> None:
        """Eq. 1 and 2: drop by magnitude, grow by score; before that, prune to the density of the moment.

        A weight that was active before and after keeps its value and its optimizer state, also when it was dropped
        and grown again; all others are zero in both.
        """
        new_masks = prune(self)
        if new_masks is not self.masks:
            before, self.active = self.nnz, self._count_active(new_masks)
            self.dropped += before - self.nnz
        if growth is not None:
            new_masks, lost, gained = explore(self, new_masks, rate, growth, drop)
            self.dropped += sum(lost.values())
            self.grown += sum(gained.values())
            if lost != gained:
                self.active = {name: count - lost[name] + gained[name] for name, count in self.active.items()}
        self.updates += 1
        for name, weight in self.weights.items():
            survivors = self.masks[name] & new_masks[name]
            self.masks[name].copy_(new_masks[name])
            self.explored[name] |= self.masks[name]
            clear_(weight, survivors)
            for state in self.optimizer.state[weight].values():
                if isinstance(state, Tensor) and state.shape == weight.shape:
                    clear_(state, survivors)

    def _count_active(self, masks: dict[str, Tensor] | None = None) -> dict[str, int]:
        counts = torch.stack([mask.sum() for mask in (masks or self.masks).values()]).tolist()
        return dict(zip(self.weights, counts, strict=True))

    # ---- state -----------------------------------------------------------------------------------------------------

    @property
    def nnz(self) -> int:
        """Active weights of the whole network."""
        return sum(self.active.values())

    def explored_share(self) -> float:
        """The part of all maskable weights that was ever active, R_s of in-time over-parameterization."""
        return int(torch.stack([explored.sum() for explored in self.explored.values()]).sum()) / self.total

    def remove(self) -> None:
        """Take the hooks off the optimizer; the weights stay as they are and are free from now on."""
        for hook in self._hooks:
            hook.remove()

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step depends on and the arguments do not say."""
        return {
            "method": self.method.title,
            "target": self.target,
            "exploration": self._exploration,
            **{name: getattr(self, name) for name in (*_TENSORS, *_NUMBERS)},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state in place.

        Raises:
            UsageError: it belongs to another model, method or density; then nothing is changed.
        """
        if (state["method"], state["target"]) != (self.method.title, self.target):
            raise UsageError(
                f"the saved masks are of {state['method']} with {state['target']} weights, not of {self.method.title} "
                f"with {self.target}"
            )
        for part in _TENSORS:
            own, loaded = getattr(self, part), state[part]
            if {name: t.shape for name, t in own.items()} != {name: t.shape for name, t in loaded.items()}:
                raise UsageError(f"the saved {part} belong to another model or kind of growth")
        for part in _TENSORS:
            for name, tensor in getattr(self, part).items():
                tensor.copy_(state[part][name])
        for name in _NUMBERS:
            setattr(self, name, state[name])
        self._exploration = state["exploration"]
        self.active = self._count_active()
        self._clear_inactive_weights()
