"""A network as a graph, its batch norms folded away."""

from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

NOTHING = (nn.Identity, nn.Dropout, nn.Dropout2d)  # in evaluation


def traced(model: nn.Module) -> fx.GraphModule | None:
    """The model as a graph, batch norms folded into the convolutions before them; None if it has none.

    A model has no graph if what it computes depends on numbers, or it is written in ways that torch.fx cannot follow.
    """
    try:
        graph = fx.symbolic_trace(model)
    except Exception:  # whatever a model's own code raises when it is given no numbers
        return None
    modules = dict(graph.named_modules())
    calls = [node.target for node in graph.graph.nodes if node.op == "call_module"]
    for node in list(graph.graph.nodes):
        module = modules.get(str(node.target)) if node.op == "call_module" else None
        before = node.args[0] if module is not None and node.args else None
        if isinstance(module, NOTHING) and isinstance(before, fx.Node):
            node.replace_all_uses_with(before)
            graph.graph.erase_node(node)
        elif type(module) is nn.BatchNorm2d and module.running_mean is not None and isinstance(before, fx.Node):
            name = str(before.target)
            # a layer that is called elsewhere too, or read by another, keeps its own outputs
            if type(modules.get(name)) is nn.Conv2d and calls.count(name) == 1 and len(before.users) == 1:
                modules[name] = fuse_conv_bn_eval(modules[name], module)  # type: ignore[type-var]
                graph.set_submodule(name, modules[name])
                node.replace_all_uses_with(before)
                graph.graph.erase_node(node)
    graph.delete_all_unused_submodules()
    graph.recompile()
    return graph
