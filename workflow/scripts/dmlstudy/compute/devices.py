"""Where a job computes, how precisely, and from which random numbers."""

import contextlib
import ctypes
import logging
import os
from pathlib import Path

# Large pages, where the system has them: a training step allocates and clears gigabytes, and page by
# page that takes up to a tenth of its time on a CPU. Read by torch when it first allocates.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

import numpy as np
import torch

from dmlstudy.core.files import StudyError


def choose_device(name):
    """``auto``, ``cpu`` or ``cuda`` as a torch device; StudyError for cuda where there is none.

    Nobody else looks: a scheduler's variables are no proof of a GPU, and a container that was promised
    one starts without it all the same.
    """
    if name != "cpu" and torch.cuda.is_available():
        return torch.device("cuda")
    if name == "cuda":
        raise StudyError(
            "device: cuda was asked for, but torch finds no GPU; say auto or cpu, or give the job "
            "its GPU (in a container: --apptainer-args=--nv)"
        )
    if name == "auto" and _promised():
        logging.getLogger(__name__).warning(
            "there is a GPU, or SLURM says so, but torch cannot use it and computes on the CPU "
            "(old driver? in a container: --apptainer-args=--nv)"
        )
    return torch.device("cpu")


def _promised():
    """Whether there is a card, or the environment names one."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return Path("/dev/nvidia0").exists() or named[:1].isdigit()


def has_native_bfloat16(device):
    """Whether the hardware multiplies bfloat16 by itself; elsewhere it is slower than float32."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def autocast(device, precision, *, cache=True):
    """Context in which a model runs: bfloat16 autocast or nothing.

    ``precision`` is ``auto`` (bfloat16 where the hardware has it), ``bfloat16`` or ``float32``.
    ``cache``: whether weights that were cast are kept until the context ends.
    """
    if precision == "bfloat16" or (precision == "auto" and has_native_bfloat16(device)):
        return torch.autocast(device.type, dtype=torch.bfloat16, cache_enabled=cache)
    return contextlib.nullcontext()


def report_emulation(device, precision):
    """Log a warning where bfloat16 is asked for and the hardware lacks it."""
    if precision == "bfloat16" and not has_native_bfloat16(device):
        logging.getLogger(__name__).warning(
            "protocol.precision: bfloat16, which this hardware does not have: torch emulates it, many times "
            "slower than float32 and with coarser gradients than hardware gives; auto takes float32 here"
        )


def prepare(device, threads):
    """Fix what sums depend on: the number of threads and deterministic kernels."""
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True, warn_only=device.type == "cuda")
    # It would write to all memory that is about to be written to anyway.
    torch.utils.deterministic.fill_uninitialized_memory = False
    torch.backends.cudnn.benchmark = False
    if device.type == "cuda":
        # Without it cuBLAS does not promise the same sums twice. It is read when a GPU is first used.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        # Convolutions of float32 are TF32. Products of matrices are not: distances and losses are made of them.
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = True


# glibc's numbers of mallopt's parameters.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3


def keep_freed_memory():
    """Let this process keep memory that is freed, where its C library is glibc, and use it again.

    Otherwise what a training step allocates is given back to the system and cleared anew at the next
    step, which took up to 30 % of the time in a virtual machine. What lies between blocks of
    different sizes is lost: such a process takes up to twice the memory, so this is for small ones.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(M_MMAP_THRESHOLD, 2**30)


def fits(size, device, reserve=0):
    """Whether ``size`` bytes fit into the device's free memory and leave ``reserve`` bytes of it."""
    if device.type != "cuda":
        return True
    # What torch keeps for later is free.
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info(device)
    return size + reserve <= free


def send(tensor, device):
    """``tensor`` on ``device``. A copy from the host to a GPU is begun, not waited for."""
    if tensor.device == device:
        return tensor
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def derived_seed(seed, *names):
    """A seed for one purpose, e.g. ``derived_seed(42, "order", epoch)``.

    Every purpose and epoch has a generator of its own, so that the numbers of an epoch do not depend
    on what was drawn before it, and a training that goes on after a break draws the same ones.
    """
    words = [seed]
    for name in names:
        words.extend(name.encode() if isinstance(name, str) else [name])
    return int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0] >> 1)


def generator(seed, *names):
    """A CPU generator for one purpose; see `derived_seed`."""
    return torch.Generator().manual_seed(derived_seed(seed, *names))
