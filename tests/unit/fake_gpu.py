"""A fake GPU: tensors that report the device ``cuda`` and keep their values on the CPU.

It tests GPU code on a machine without a GPU. As on a GPU, an operation on tensors of two devices is an
error. Operations for which the host waits for the device are recorded. The backward pass of autograd
needs a driver, so gradients are zeros here.
"""

import contextlib
import sys
from typing import NamedTuple
from unittest import mock

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._pytree import tree_leaves, tree_map

aten = torch.ops.aten
CUDA = torch.device("cuda", 0)

# Operations that need values of the device on the host: a number, or a shape that depends on values.
WAITS = {
    aten._local_scalar_dense.default,
    aten.equal.default,
    aten.is_nonzero.default,
    aten.masked_select.default,
    aten.nonzero.default,
    aten._unique2.default,
    aten.unique_consecutive.default,
    aten.unique_dim.default,
}

COPIES = (aten.copy_.default, aten._to_copy.default)
INDEXING = (aten.index.Tensor, aten.index_put.default, aten.index_put_.default)


class Wait(NamedTuple):
    """An operation for which the host waits, and the package that called it."""

    operation: str
    package: str


class OnGPU(torch.Tensor):
    """A tensor on the fake device; ``value`` has its values."""

    @staticmethod
    def __new__(cls, value):
        with torch.inference_mode(False):
            return torch.Tensor._make_wrapper_subclass(
                cls,
                value.shape,
                value.stride(),
                value.storage_offset(),
                dtype=value.dtype,
                device=CUDA,
                requires_grad=False,
            )

    def __init__(self, value):
        self.value = value

    def __repr__(self):
        return f"OnGPU({self.value})"

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        raise AssertionError(f"{function} of a tensor on the GPU after the GPU went")


def backward(tensor, *_, **__):
    """Replaces Tensor.backward: zero gradients for all inputs of ``tensor``."""
    nodes, seen = [tensor.grad_fn], set()
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            node.variable.grad = torch.zeros_like(node.variable)
        nodes.extend(following for following, _ in node.next_functions)


class FakeGPU(FakeTensorMode):
    """Context in which ``cuda`` exists. ``waits``: operations for which the host waited.

    A subclass of FakeTensorMode, because torch does not initialise CUDA while one is active.
    """

    avoid_device_init = True

    def __init__(self):
        super().__init__(allow_non_fake_inputs=True)
        self.waits = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        leaves = tree_leaves((args, kwargs))
        on_gpu = [leaf for leaf in leaves if isinstance(leaf, OnGPU)]
        target = kwargs.get("device")
        to_gpu = target is not None and target.type == "cuda"
        if not on_gpu and not to_gpu:
            return function(*args, **kwargs)
        if target is not None:
            kwargs["device"] = torch.device("cpu")
        to_host = target is not None and not to_gpu
        self._check(function, args, leaves)
        if (
            function in WAITS
            or self._copies(function, args, kwargs, to_host)
            or self._selects(function, args)
        ):
            self.waits.append(Wait(str(function), self._package()))
        wrappers = {id(leaf.value): leaf for leaf in on_gpu}
        args, kwargs = tree_map(
            lambda leaf: leaf.value if isinstance(leaf, OnGPU) else leaf, (args, kwargs)
        )
        with torch.autocast("cpu", enabled=False):
            found = function(*args, **kwargs)
        if to_host or (function is aten.copy_.default and id(found) not in wrappers):
            return found

        def wrapped(leaf):
            if not isinstance(leaf, torch.Tensor):
                return leaf
            # In-place operation: return the argument.
            return wrappers[id(leaf)] if id(leaf) in wrappers else OnGPU(leaf)

        return tree_map(wrapped, found)

    @staticmethod
    def _check(function, args, leaves):
        """Raise for tensors of two devices, except scalars, copies and indices, which torch copies."""
        if function in (*COPIES, *INDEXING):
            leaves = [] if function in COPIES else [args[0], *args[2:3]]
        tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
        on_host = [one for one in tensors if not isinstance(one, OnGPU) and one.dim()]
        if on_host and len(on_host) < len(tensors):
            raise RuntimeError(f"{function}: all tensors should be on one device, not cuda and cpu")

    @staticmethod
    def _copies(function, args, kwargs, to_host):
        """Whether the operation is a blocking copy between host and device."""
        if function is aten._to_copy.default:
            across = to_host or not isinstance(args[0], OnGPU)
            return across and not kwargs.get("non_blocking")
        if function is aten.copy_.default:
            across = isinstance(args[0], OnGPU) != isinstance(args[1], OnGPU)
            return across and not (args[2:] and args[2]) and not kwargs.get("non_blocking")
        return False

    @staticmethod
    def _selects(function, args):
        """Whether the host needs the number of elements of a mask, or indices must be sent."""
        if function not in INDEXING:
            return False
        indices = [index for index in args[1] if index is not None]
        if any(not isinstance(index, OnGPU) for index in indices):
            return True
        masks = [index for index in indices if index.value.dtype == torch.bool]
        # A fill with one mask and one value needs no count.
        return bool(masks) and not (len(indices) == 1 and len(args) > 2 and args[2].numel() == 1)

    @staticmethod
    def _package():
        """The package whose code called the operation: ours, or a library."""
        frame = sys._getframe()
        while frame := frame.f_back:
            name = frame.f_globals.get("__name__", "").partition(".")[0]
            if name not in ("torch", "fake_gpu", "contextlib", "unittest"):
                return name
        return ""

    def __enter__(self):
        self._patches = contextlib.ExitStack()
        for name, value in {
            "torch.cuda.is_available": lambda: True,
            "torch.cuda.is_bf16_supported": lambda *_, **__: True,
            "torch.cuda.get_device_capability": lambda *_: (9, 0),
            "torch.cuda.get_device_name": lambda *_: "none",
            "torch.cuda.mem_get_info": lambda *_: (2**36, 2**36),
            "torch.cuda.max_memory_reserved": lambda *_: 0,
            "torch.cuda.get_rng_state": lambda *_: torch.zeros(16, dtype=torch.uint8),
            "torch.cuda.set_rng_state": lambda *_: None,
            "torch.cuda.make_graphed_callables": lambda module, _: module,
            # A moved parameter is replaced by a new one: the old one cannot hold an `OnGPU`.
            "torch.__future__.get_overwrite_module_params_on_conversion": lambda: True,
            "torch.Tensor.backward": backward,
            # Pinning memory needs no CUDA here.
            "torch.Tensor.pin_memory": lambda tensor, *_: tensor,
        }.items():
            self._patches.enter_context(mock.patch(name, value))
        # Operations of cuDNN do not exist on the CPU.
        self._patches.enter_context(torch.backends.cudnn.flags(enabled=False))
        return super().__enter__()

    def __exit__(self, *error):
        self._patches.close()
        return super().__exit__(*error)
