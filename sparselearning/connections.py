"""The connections of a model: masks, and the weights, gradients and optimizer state that follow them."""

import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import NoReturn

import torch
from torch import Tensor, nn

from sparselearning.coverage import coverage
from sparselearning.errors import UsageError, check_number
from sparselearning.kinds import kind_of
from sparselearning.layers import clear_, layer_weights, unwrap
from sparselearning.methods import Layer
from sparselearning.topology import Topology
from sparselearning.validation import MaskingState
from sparselearning.watch import Watch, clear_state_

_MOMENTUM = 0.9  # of the dense gradient, as in SNFS


class Connections:
    """Keeps weights, gradients and optimizer state zero where there is no connection; changes the topology in place.

    Attributes:
        ever_active: like the masks, every connection that ever existed (`explored` in a state).
        before_moves: is called in each step that moves connections, before it does and after its backward pass.

    Args:
        model: unwrapped.
        weights: its masked weights by parameter name.
        optimizer: that holds them.
        masks: bool, of the weights' shapes.
        track_momentum: keep a momentum of the dense gradient, for scores to read?
    """

    def __init__(
        self,
        model: nn.Module,
        weights: Mapping[str, nn.Parameter],
        optimizer: torch.optim.Optimizer,
        masks: Mapping[str, Tensor],
        track_momentum: bool,
    ) -> None:
        self.model, self.weights, self.optimizer = model, weights, optimizer
        self._known = {name for name, _ in model.named_parameters(remove_duplicate=False)}
        self.topology = Topology.of(masks)
        self.ever_active = {name: mask.clone() for name, mask in masks.items()}
        self.dense_momentum = {name: torch.zeros_like(w) for name, w in weights.items() if track_momentum}
        self._gradients: dict[str, Tensor] = {}  # dense, of a step that moves connections
        self._watch = Watch(weights)
        self._state_is_clear = False
        self._warned_of: set[str] = set()
        self.before_moves: Callable[[], None] | None = None
        self.clear_weights()

    @property
    def masks(self) -> Mapping[str, Tensor]:
        """{parameter name: bool tensor of the parameter's shape}; changed in place."""
        return self.topology.masks

    @property
    def active(self) -> Mapping[str, int]:
        """{parameter name: its number of connections}."""
        return self.topology.active

    @property
    def nnz(self) -> int:
        """Connections of the whole network."""
        return self.topology.nnz

    @property
    def num_weights(self) -> int:
        """N, the number of maskable weights."""
        return sum(weight.numel() for weight in self.weights.values())

    def itop_rate(self) -> float:
        """R_s of in-time over-parameterization (Liu et al. 2021): the share of the weights that was ever active."""
        return int(torch.stack([ever.sum() for ever in self.ever_active.values()]).sum()) / self.num_weights

    def summary(self) -> str:
        """A sentence that says which share of the parameters is masked, and names the larger ones that are not."""
        return coverage(self.model, self.weights, self.nnz)

    # ---- outside the masks -----------------------------------------------------------------------------------------

    @torch.no_grad()
    def clear_weights(self) -> None:
        clear_(self.weights.values(), self.masks.values())
        self._watch.note()

    @torch.no_grad()
    def sparsify_(self, model: nn.Module) -> None:
        """Clear the weights of another model of the same kind outside the masks, in place: an average, a copy.

        Raises:
            UsageError: it has no such weights.
        """
        parameters = dict(unwrap(model).named_parameters(remove_duplicate=False))
        for name, mask in self.masks.items():
            if name not in parameters or parameters[name].shape != mask.shape:
                raise UsageError(f"the model to sparsify has no {name} of shape {tuple(mask.shape)}: give a copy of it")
        clear_([parameters[name] for name in self.masks], self.masks.values())

    @torch.no_grad()
    def clear_gradients(self, keep: bool) -> None:
        """Zero the gradients of inactive weights; if `keep` the dense ones are set aside for scores to read."""
        gradients = {name: weight.grad for name, weight in self.weights.items() if weight.grad is not None}
        self._gradients = {name: torch.empty_like(gradient) for name, gradient in gradients.items()} if keep else {}
        if self._gradients:
            torch._foreach_copy_([*self._gradients.values()], [*gradients.values()])
        clear_(gradients.values(), [self.masks[name] for name in gradients])

    @torch.no_grad()
    def track_momentum(self) -> None:
        pairs = [(momentum, self.weights[name].grad) for name, momentum in self.dense_momentum.items()]
        if pairs := [(momentum, gradient) for momentum, gradient in pairs if gradient is not None]:
            momenta, gradients = zip(*pairs, strict=True)
            torch._foreach_mul_(momenta, _MOMENTUM)
            torch._foreach_add_(momenta, gradients)

    @torch.no_grad()
    def clip_grad_norm_(self, parameters: Tensor | Iterable[Tensor], max_norm: float) -> Tensor:
        """As `torch.nn.utils.clip_grad_norm_`, but the norm is that of the sub-network; returns it."""
        several = isinstance(parameters, Iterable) and not isinstance(parameters, Tensor)
        given: list[object] = list(parameters) if several else [parameters]
        clipped = [parameter for parameter in given if isinstance(parameter, Tensor)]
        if others := [parameter for parameter in given if not isinstance(parameter, Tensor)]:
            raise UsageError(f"clip_grad_norm_ takes model.parameters(), not {kind_of(others[0])}")
        check_number("max_norm", max_norm, 0)
        masks = {id(weight): self.masks[name] for name, weight in self.weights.items()}
        gradients = [(masks.get(id(p)), p.grad) for p in clipped if p.grad is not None]
        norm = nn.utils.get_total_norm([g if mask is None else torch.where(mask, g, 0) for mask, g in gradients])
        nn.utils.clip_grads_with_norm_(clipped, max_norm, norm)
        return norm

    def optimizer_loaded(self, optimizer: torch.optim.Optimizer) -> None:
        """Its state is another one, which may be that of a dense network."""
        self._state_is_clear = False

    @torch.no_grad()
    def check_unchanged(self, moving: bool) -> None:
        """Before a step: what was loaded is complete, and nothing else has changed the network since the last one.

        Args:
            moving: will the step move connections? Only then, and after weights were written, the weights are looked
                at, for which the host waits for the device.

        Raises:
            UsageError: says what is wrong.
        """
        where, masks = (next(iter(tensors.values())).device for tensors in (self.weights, self.masks))
        if where != masks:
            raise UsageError(f"the model was moved to {where}, its masks are on {masks}: move it before building them")
        self._watch.start()
        if moving or self._watch.written():
            self._watch.check_inside(self.masks)
        if moving:
            self._check_members()
            if Topology.of(self.masks).active != self.active:
                raise UsageError("the masks were written by other code: change them by masking.load_state_dict()")
            if self.before_moves is not None:
                self.before_moves()
        if not self._state_is_clear:
            clear_state_(self.optimizer, self.weights.values(), self.masks.values())
            self._state_is_clear = True

    def _check_members(self) -> None:
        """Raises UsageError where a masked weight is no longer one of the model, or of the optimizer."""
        parameters = dict(self.model.named_parameters(remove_duplicate=False))
        if new := [name for name in layer_weights(self.model) if name not in self._known]:
            raise UsageError(f"{new[0]} was added to the model after Masking was built: build Masking anew")
        held = {id(p) for group in self.optimizer.param_groups for p in group["params"]}
        for name, weight in self.weights.items():
            if parameters.get(name) is not weight or id(weight) not in held:
                owner = "optimizer" if parameters.get(name) is weight else "model"
                raise UsageError(
                    f"{name} is no longer a parameter of the {owner}: after a layer or the optimizer was replaced, "
                    f"build Masking anew"
                )

    # ---- changing the topology -------------------------------------------------------------------------------------

    def layers(self, topology: Topology, key: tuple[int, int]) -> dict[str, Layer]:
        """What scores read, of the layers that are trained; the others keep their connections.

        Those are the layers with a gradient; where nothing has one, all that are not frozen: scores may need none.
        """
        present = {name: weight.grad for name, weight in self.weights.items() if weight.grad is not None}
        gradients = self._gradients or present
        no_gradients = all(p.grad is None for group in self.optimizer.param_groups for p in group["params"])
        names = [n for n, weight in self.weights.items() if weight.requires_grad and (no_gradients or n in gradients)]
        if idle := {*self.weights} - {*names} - self._warned_of:
            warnings.warn(f"layers without a gradient exchange no connections: {', '.join(sorted(idle))}", stacklevel=2)
            self._warned_of |= idle
        return {
            name: Layer(
                name, self.weights[name], topology.masks[name], topology.active[name], gradients.get(name),
                self.dense_momentum.get(name), key,
            )
            for name in names
        }  # fmt: skip

    def set_topology(self, topology: Topology) -> None:
        """Make the topology that of the network, in place.

        A weight that was active before and after keeps its value and its optimizer state, also when it was dropped
        and grown again; all others are zero, and have the optimizer's initial state.
        """
        old, new = [*self.masks.values()], [topology.masks[name] for name in self.masks]
        survivors = torch._foreach_mul(old, new)  # of bools: and
        torch._foreach_copy_(old, new)
        for ever, mask in zip(self.ever_active.values(), new, strict=True):
            ever |= mask
        clear_(self.weights.values(), survivors)
        clear_state_(self.optimizer, self.weights.values(), survivors)
        self.topology = Topology(self.masks, topology.active)
        self._gradients = {}
        self._watch.note()

    # ---- state -----------------------------------------------------------------------------------------------------

    def nonzeros(self) -> dict[str, int]:
        """Weights that are not zero, by name."""
        counts = torch.stack([weight.count_nonzero() for weight in self.weights.values()]).tolist()
        return dict(zip(self.weights, counts, strict=True))

    @torch.no_grad()
    def load_tensors(self, saved: MaskingState) -> None:
        """Restore masks and what goes with them, in place, checked before."""
        self._watch.restore(self.masks, saved["nonzeros"])
        parts = saved["masks"], saved["explored"], saved["dense_momentum"]
        for own, part in zip((self.masks, self.ever_active, self.dense_momentum), parts, strict=True):
            for name, tensor in own.items():
                tensor.copy_(part[name])
        self.topology = Topology.of(self.masks)
        self._state_is_clear = False
        self.clear_weights()

    def __deepcopy__(self, memo: object) -> NoReturn:
        raise UsageError("a Masking cannot be copied or pickled: it belongs to one optimizer; copy its state_dict()")

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        self.__deepcopy__(protocol)
