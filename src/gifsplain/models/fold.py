"""A copy of any network that is faster at inference and input gradients, and computes the same numbers.

Batch normalisation is folded into the convolution before it only where the data flow proves that it may be: the
methods of each module are traced with torch.fx, and only a normalisation in evaluation mode that is the single reader
of a convolution's output is folded. The copy's own layers stay as they are; only the traced method is replaced, and it
steps back to the original as soon as somebody hooks into a folded layer, changes its numbers or trains it. What cannot
be traced is left.
"""

import copy
import inspect
import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import MethodType
from typing import Any, TypeVar

import torch
from torch import Tensor, fx, nn
from torch.nn.modules import module as module_state
from torch.utils import _pytree as pytree

log = logging.getLogger(__name__)

Net = TypeVar("Net", bound=nn.Module)

_TRACING = threading.Lock()
"""torch.fx changes `nn.Module` for as long as it traces; two at once would not leave it as it was."""
METHODS = ("forward", "encode", "decode")
TOLERANCE = 1e-3
"""Largest difference at the first call, relative to the largest value; beyond it the original method returns."""

CONVOLUTIONS: dict[type[nn.Module], Callable[..., Tensor]] = {
    nn.Conv1d: torch.conv1d,
    nn.Conv2d: torch.conv2d,
    nn.Conv3d: torch.conv3d,
    nn.ConvTranspose1d: torch.conv_transpose1d,
    nn.ConvTranspose2d: torch.conv_transpose2d,
    nn.ConvTranspose3d: torch.conv_transpose3d,
}
TRANSPOSED = {torch.conv_transpose1d, torch.conv_transpose2d, torch.conv_transpose3d}
ARGUMENTS = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
TRANSPOSED_ARGUMENTS = ("input", "weight", "bias", "stride", "padding", "output_padding", "groups", "dilation")
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def fold(net: Net, *, channels_last: bool = True) -> Net:
    """A copy of `net` in evaluation mode for inference and gradients with respect to the input; `net` is not changed.

    Parameters of the copy need no gradients, convolutions absorb the batch normalisations after them, and images are
    laid out channels last. The first call of each folded method runs both versions and keeps the original where they
    differ. Fold again after moving the copy to another device or type: it is slow otherwise, never wrong. A copy of the
    copy is not folded.
    """
    folded = copy.deepcopy(net).eval().requires_grad_(False)
    if channels_last:
        folded = folded.to(memory_format=torch.channels_last)
    planned: set[nn.Module] = set()
    for module in _bottom_up(folded):
        for method in METHODS:
            if _defines(module, method) and _replace(module, method, planned):
                planned.add(module)
    return folded


def unfold(net: nn.Module) -> None:
    """Go back to the network's own methods, in place; nothing happens to a network that was not folded."""
    for module in net.modules():
        for name, method in list(vars(module).items()):
            if isinstance(method, MethodType) and isinstance(method.__func__, _FoldedMethod):
                method.__func__.enabled = False
                delattr(module, name)


def folded_count(net: nn.Module) -> int:
    """How many batch normalisations are absorbed in this network; 0 for one that was not folded."""
    norms = {
        pair.norm
        for module in net.modules()
        for method in vars(module).values()
        if isinstance(method, MethodType) and isinstance(method.__func__, _FoldedMethod)
        if method.__func__.owner is module and method.__func__.usable()
        for pair in method.__func__.pairs
    }
    return len(norms)


def _bottom_up(module: nn.Module) -> Iterator[nn.Module]:
    """Every module once, children before parents."""
    return reversed(list(module.modules()))


def _open_parts(module: nn.Module, planned: set[nn.Module]) -> Iterator[nn.Module]:
    """The module and its parts, without those that are folded already."""
    yield module
    for child in module.children():
        if child not in planned:
            yield from _open_parts(child, planned)


def _defines(module: nn.Module, method: str) -> bool:
    """Whether the module's class has this method in Python (not the empty one of `nn.Module`)."""
    found = getattr(type(module), method, None)
    return callable(found) and found is not nn.Module.forward and type(module).__module__ != "torch.jit._script"


class _Tracer(fx.Tracer):
    """Records one method; goes into a module only where a fold could hide."""

    def __init__(self, method: str, planned: set[nn.Module]) -> None:
        super().__init__()
        self.traced_func_name = method
        self.planned = planned
        self.entered: list[nn.Module] = []
        self.thread = threading.get_ident()

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, fx.Proxy]) -> Any:
        """What the module has, for other threads: torch.fx watches the modules of the whole process."""
        if threading.get_ident() != self.thread:
            return attr_val
        return super().getattr(attr, attr_val, parameter_proxy_cache)

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Remember which modules are dissolved into the graph: nobody calls them any more."""
        if threading.get_ident() != self.thread:
            return forward(*args, **kwargs)
        if not self.is_leaf_module(m, self.path_of_module(m)):
            self.entered.append(m)
        return super().call_module(m, forward, args, kwargs)

    def create_args_for_root(
        self, root_fn: Callable[..., Any], is_module: bool, concrete_args: Any = None
    ) -> tuple[Callable[..., Any], list[Any]]:
        """Symbols for the arguments that every call must give; the others keep their defaults."""
        names = _required(root_fn)[1:]
        return root_fn, [self.root, *(self.create_proxy("placeholder", name, (), {}) for name in names)]

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Keep as one node: what is done already, what has nothing to fold, and plain convolutions and norms."""
        if m in self.planned or _is_norm(m):
            return True
        if type(m) in CONVOLUTIONS:
            return getattr(m, "padding_mode", "zeros") == "zeros"
        return not any(isinstance(part, (*CONVOLUTIONS, *NORMS)) for part in m.modules())


Source = tuple[dict[str, Any], str]
"""A module's dictionary of parameters or buffers, and the name in it."""


@dataclass(frozen=True)
class _Pair:
    """A convolution node and the normalisation node that is its only reader, with the layers' own stores."""

    convolution: fx.Node
    function: Callable[..., Tensor]
    arguments: dict[str, Any]
    weight: Source
    bias: Source | None
    norm_node: fx.Node
    norm: nn.Module
    layer: nn.Module | None = None
    """The convolution where it was called as a module."""

    def sources(self) -> list[Source]:
        """Everything that the fold reads."""
        own = [self.weight] if self.bias is None else [self.weight, self.bias]
        norm = self.norm
        learnt = [(norm._parameters, name) for name in ("weight", "bias")]
        return [*own, *learnt, (norm._buffers, "running_mean"), (norm._buffers, "running_var")]


def _replace(module: nn.Module, method: str, planned: set[nn.Module]) -> bool:
    """Trace a method and put its folded form onto the instance; False where nothing can be folded."""
    if not any(_is_norm(part) for part in _open_parts(module, planned)) or any(map(_listened_to, module.modules())):
        return False
    tracer = _Tracer(method, planned)
    try:
        with _TRACING:
            graph = tracer.trace(module)
    except Exception as error:  # a user's forward may raise anything when given symbols
        log.debug("%s.%s cannot be traced (%s); its parts are tried alone", type(module).__name__, method, error)
        return False
    if any(node.op == "get_attr" and "_tensor_constant" in str(node.target) for node in graph.nodes):
        _drop_constants(module)
        return False  # a value made inside the method would be frozen
    pairs = [pair for node in graph.nodes if (pair := _pair(module, node)) is not None]
    if not pairs:
        return False
    for pair in pairs:
        _fuse(module, graph, pair)
    graph.lint()
    fast = type(fx.GraphModule(module, graph)).forward
    parts = [*tracer.entered, *(p.norm for p in pairs), *(p.layer for p in pairs if p.layer is not None)]
    folded = _FoldedMethod(module, method, fast, pairs, parts)
    setattr(module, method, MethodType(folded, module))
    return True


def _required(function: Callable[..., Any]) -> list[str]:
    """Names of the positional parameters without a default, `self` included."""
    return [
        name
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.default is parameter.empty and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
    ]


def _drop_constants(module: nn.Module) -> None:
    """Remove what the tracer left behind on the module."""
    for name in [name for name in vars(module) if name.startswith("_tensor_constant")]:
        delattr(module, name)


def _is_norm(module: nn.Module) -> bool:
    """Exactly a batch normalisation, in evaluation mode, with stored statistics."""
    return type(module) in NORMS and not module.training and module.running_mean is not None


def _pair(module: nn.Module, node: fx.Node) -> _Pair | None:
    """The pair that ends in `node`, where the data flow proves one."""
    if node.op != "call_module" or not isinstance(node.args[0] if node.args else None, fx.Node):
        return None
    norm, before = module.get_submodule(str(node.target)), node.args[0]
    assert isinstance(before, fx.Node)
    if not _is_norm(norm) or len(before.users) != 1:
        return None
    if before.op == "call_module":
        return _module_pair(module, before, node, norm)
    if before.op == "call_function" and before.target in CONVOLUTIONS.values():
        return _function_pair(module, before, node, norm)
    return None


def _module_pair(module: nn.Module, before: fx.Node, node: fx.Node, norm: nn.Module) -> _Pair | None:
    conv: Any = module.get_submodule(str(before.target))
    if type(conv) not in CONVOLUTIONS or len(before.args) != 1 or before.kwargs:
        return None
    function = CONVOLUTIONS[type(conv)]
    names = TRANSPOSED_ARGUMENTS if function in TRANSPOSED else ARGUMENTS
    arguments = {name: getattr(conv, name) for name in names[3:]}
    weight, bias = (conv._parameters, "weight"), (conv._parameters, "bias")
    if conv._parameters.get("weight") is None:
        return None  # computed from something else, as by a parametrisation
    return _Pair(before, function, {"input": before.args[0], **arguments}, weight, bias, node, norm, conv)


def _function_pair(module: nn.Module, before: fx.Node, node: fx.Node, norm: nn.Module) -> _Pair | None:
    function: Any = before.target
    names = TRANSPOSED_ARGUMENTS if function in TRANSPOSED else ARGUMENTS
    arguments = {**dict(zip(names, before.args, strict=False)), **before.kwargs}
    weight, bias = arguments.pop("weight", None), arguments.pop("bias", None)
    sources = _source(module, weight), _source(module, bias)
    if sources[0] is None or (bias is not None and sources[1] is None):
        return None
    return _Pair(before, function, arguments, sources[0], sources[1], node, norm)


def _source(module: nn.Module, node: Any) -> Source | None:
    """Where a node reads a stored tensor; None for one that is computed."""
    if not isinstance(node, fx.Node) or node.op != "get_attr":
        return None
    path, _, name = str(node.target).rpartition(".")
    owner = module.get_submodule(path)
    stores: tuple[dict[str, Any], ...] = (owner._parameters, owner._buffers)
    return next(((store, name) for store in stores if store.get(name) is not None), None)


def _fuse(module: nn.Module, graph: fx.Graph, pair: _Pair) -> None:
    """Replace both nodes by one convolution whose new parameters live on the module that owns the method."""
    transposed, groups = pair.function in TRANSPOSED, pair.arguments.get("groups", 1)
    bias = pair.bias[0][pair.bias[1]] if pair.bias is not None else None
    stored = fused_parameters(pair.weight[0][pair.weight[1]], bias, pair.norm, transposed=transposed, groups=groups)
    number = sum(name.startswith("_folded_weight") for name in vars(module))
    names = f"_folded_weight_{number}", f"_folded_bias_{number}"
    for name, value in zip(names, stored, strict=True):
        setattr(module, name, value)
    old = pair.convolution  # its input may be another normalisation, which is a new convolution by now
    arguments = {**pair.arguments, "input": old.args[0] if old.args else old.kwargs["input"]}
    with graph.inserting_before(old):
        read = [graph.get_attr(name) for name in names]
        call = graph.call_function(pair.function, kwargs={**arguments, "weight": read[0], "bias": read[1]})
    pair.norm_node.replace_all_uses_with(call)
    graph.erase_node(pair.norm_node)
    graph.erase_node(pair.convolution)


def fused_parameters(
    weight: Tensor, bias: Tensor | None, norm: Any, *, transposed: bool = False, groups: int = 1
) -> tuple[Tensor, Tensor]:
    """Weight and bias of one convolution equal to a convolution followed by `norm`; computed in double precision."""
    mean, variance = norm.running_mean.double(), norm.running_var.double()
    gain = torch.rsqrt(variance + norm.eps)
    if norm.weight is not None:
        gain = gain * norm.weight.double()
    shift = (0 if bias is None else bias.double()) - mean
    shift = shift * gain + (0 if norm.bias is None else norm.bias.double())
    ones = [1] * (weight.ndim - 2)
    if transposed:  # in, out / groups, ...
        rows = gain.reshape(groups, 1, -1).expand(-1, weight.shape[0] // groups, -1).reshape(weight.shape[0], -1, *ones)
    else:
        rows = gain.reshape(-1, 1, *ones)
    return (weight.double() * rows).to(weight).detach(), shift.to(weight).detach()


class _FoldedMethod:
    """The fast form of one method of one module, and what must stay as it was for it to be right."""

    def __init__(
        self, module: nn.Module, method: str, fast: Callable[..., Any], pairs: list[_Pair], parts: list[nn.Module]
    ) -> None:
        self.owner = module
        self.original = getattr(type(module), method)
        self.fast = fast
        self.pairs = pairs
        self.parts = parts
        self.count = len(_required(self.original)) - 1
        self.checked = False
        self.enabled = True
        read = [(store, name) for pair in pairs for store, name in pair.sources()]
        self.numbers = [(store, name, store[name], _version(store[name])) for store, name in read]

    def usable(self) -> bool:
        """Whether nobody trains, listens to or has changed what was folded."""
        return (
            self.enabled
            and not module_state._global_forward_hooks
            and not any(map(_listened_to, self.parts))
            and not any(pair.norm.training for pair in self.pairs)
            and all(
                store.get(name) is tensor and _version(tensor) == version
                for store, name, tensor, version in self.numbers
            )
        )

    def __call__(self, module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        """The method's value; a copy of the module, or a call with optional arguments, gets the original."""
        if module is not self.owner or kwargs or len(args) != self.count or not self.usable():
            return self.original(module, *args, **kwargs)
        if self.checked:
            return self.fast(module, *args)
        if torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda"):
            return self.original(module, *args)  # rounding to 8 bits must not decide whether the two agree
        return self._first(module, args)

    def _first(self, module: nn.Module, args: tuple[Any, ...]) -> Any:
        """Run both versions on the same values and stay with the original where they differ."""
        leaves, tree = pytree.tree_flatten(args)
        own = [leaf.detach().clone() if isinstance(leaf, Tensor) else leaf for leaf in leaves]
        with torch.no_grad():
            got = self.fast(module, *pytree.tree_unflatten(own, tree))
        expected = self.original(module, *args)
        self.enabled, self.checked = _agree(expected, got), True
        if not self.enabled:
            log.warning("the folded %s differs from the original, which is kept", self.original.__qualname__)
        return expected


def _listened_to(part: nn.Module) -> bool:
    """Whether somebody has hooked into exactly this module."""
    return bool(part._forward_hooks or part._forward_pre_hooks or part._backward_hooks or part._backward_pre_hooks)


def _version(tensor: Tensor | None) -> int:
    return -1 if tensor is None else tensor._version


def _agree(expected: Any, got: Any) -> bool:
    """Whether two nested results have the same form and the same values within `TOLERANCE`."""
    (first, tree), (second, other) = pytree.tree_flatten(expected), pytree.tree_flatten(got)
    if tree != other:
        return False
    for a, b in zip(first, second, strict=True):
        if isinstance(a, Tensor) != isinstance(b, Tensor) or (not isinstance(a, Tensor) and a != b):
            return False
        if isinstance(a, Tensor):
            a, b = a.detach().float(), b.detach().float()
            if a.shape != b.shape or not bool(((a - b).abs() <= TOLERANCE * a.abs().amax().clamp_min(1e-6)).all()):
                return False
    return True
