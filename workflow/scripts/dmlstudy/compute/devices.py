"""Device, precision, determinism and random numbers of a job."""

import contextlib
import ctypes
import logging
import os
from pathlib import Path

# Use huge pages if the system has them. A training step allocates and clears gigabytes; with small pages
# this takes up to 10 % of its time on a CPU. Torch reads the variable at its first allocation.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

import numpy as np
import torch

from dmlstudy.core.files import StudyError


def choose_device(name):
    """The torch device for ``auto``, ``cpu`` or ``cuda``; StudyError for cuda without a usable GPU.

    Only torch can tell whether there is a usable GPU: the variables of a scheduler do not prove it, and
    a container also starts without the GPU it was given.
    """
    if name != "cpu" and torch.cuda.is_available():
        return torch.device("cuda")
    if name == "cuda":
        raise StudyError(
            "device: cuda, but torch finds no GPU; set auto or cpu, or give the job a GPU (in a "
            "container: --apptainer-args=--nv)"
        )
    if name == "auto" and _promised():
        logging.getLogger(__name__).warning(
            "this machine or job has a GPU, but torch cannot use it and computes on the CPU (is the "
            "driver too old? in a container: --apptainer-args=--nv)"
        )
    return torch.device("cpu")


def _promised():
    """Whether the machine has a GPU or the environment names one."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return Path("/dev/nvidia0").exists() or named[:1].isdigit()


def has_native_bfloat16(device):
    """Whether the hardware has bfloat16 arithmetic; without it bfloat16 is slower than float32."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def autocast(device, precision, *, cache=True):
    """Context manager to run a model in: bfloat16 autocast, or nothing.

    ``precision``: ``auto`` (bfloat16 if the hardware has it), ``bfloat16`` or ``float32``;
    ``cache``: whether cast weights are kept until the context ends.
    """
    if precision == "bfloat16" or (precision == "auto" and has_native_bfloat16(device)):
        return torch.autocast(device.type, dtype=torch.bfloat16, cache_enabled=cache)
    return contextlib.nullcontext()


def report_emulation(device, precision):
    """Log a warning if the recipe asks for bfloat16 and the hardware does not have it."""
    if precision == "bfloat16" and not has_native_bfloat16(device):
        logging.getLogger(__name__).warning(
            "protocol.precision: bfloat16, but this hardware does not have it: torch emulates it, many "
            "times slower than float32 and with less precise gradients; auto would use float32 here"
        )


def prepare(device, threads):
    """Make results repeatable: a fixed number of threads, and deterministic kernels."""
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True, warn_only=device.type == "cuda")
    # Deterministic mode would fill new memory with NaN; it is overwritten anyway.
    torch.utils.deterministic.fill_uninitialized_memory = False
    torch.backends.cudnn.benchmark = False
    if device.type == "cuda":
        # cuBLAS needs this for repeatable sums; it is read at the first use of a GPU.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        # TF32 for float32 convolutions only; distances and losses use matrix products.
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = True


# Parameters of mallopt in glibc.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3


def keep_freed_memory():
    """Keep freed memory in this process for reuse (glibc only).

    By default the memory of a training step goes back to the system, which clears it again for the next
    step; in a virtual machine this took up to 30 % of the time. Fragmentation can double the memory of
    the process, so use this only for small ones.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(M_MMAP_THRESHOLD, 2**30)


def fits(size, device, reserve=0):
    """Whether ``size`` bytes fit into the free memory of a device and ``reserve`` bytes stay free."""
    if device.type != "cuda":
        return True
    # Memory in torch's cache counts as free.
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info(device)
    return size + reserve <= free


def send(tensor, device):
    """``tensor`` on ``device``. A copy from the host to a GPU is asynchronous."""
    if tensor.device == device:
        return tensor
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def derived_seed(seed, *names):
    """A seed for one purpose, e.g. ``derived_seed(42, "order", epoch)``.

    Every purpose and epoch has its own generator. So the numbers of an epoch do not depend on numbers
    drawn before it, and a resumed training draws the same ones.
    """
    words = [seed]
    for name in names:
        words.extend(name.encode() if isinstance(name, str) else [name])
    return int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0] >> 1)


def generator(seed, *names):
    """A CPU generator for one purpose; see `derived_seed`."""
    return torch.Generator().manual_seed(derived_seed(seed, *names))
