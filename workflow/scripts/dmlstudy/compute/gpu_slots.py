"""Assign a GPU to each job on a machine with several GPUs, or share one GPU between small jobs.

Snakemake only counts `gpu`; it does not assign cards. Here a job reserves memory of a card: a file per
job gives the number of MB and stays locked (flock) until the job ends. The kernel releases the lock
however the job ends, also after `kill -9`, and the next job removes the file. The reservations of a card
never exceed its memory. The files are in a folder that all jobs of a user on the machine share. Torch is
not imported here.
"""

import fcntl
import logging
import os
import subprocess
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from dmlstudy.compute.memory import MB, embedding_bytes, needed_megabytes
from dmlstudy.core.files import StudyError

# MB that are kept free for the driver and a display.
KEPT = 700
POLL, REMIND = 1.0, 60.0
QUERY = ("nvidia-smi", "--query-gpu=uuid,memory.total,memory.free", "--format=csv,noheader,nounits")


class Card(NamedTuple):
    """A GPU: its UUID for CUDA, its total and its free memory in MB."""

    uuid: str
    total: int
    free: int


def installed_cards():
    """The GPUs of the machine in the order of nvidia-smi; an empty list without a driver."""
    try:
        found = subprocess.run(QUERY, capture_output=True, text=True, check=True, timeout=60).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    cards = []
    for line in found.splitlines():
        uuid, total, free = (value.strip() for value in line.split(","))
        # Some machines do not report the memory of a card; CUDA chooses such cards.
        if total.isdigit() and free.isdigit():
            cards.append(Card(uuid, int(total), int(free)))
    return cards


def visible(cards, variable):
    """The cards that CUDA_VISIBLE_DEVICES (or None) allows; None for a value that cannot be parsed."""
    if variable is None:
        return cards
    allowed = []
    for word in filter(None, variable.split(",")):
        named = [card for card in cards if card.uuid.startswith(word)]
        if word.isdigit() and int(word) < len(cards):
            allowed.append(cards[int(word)])
        elif len(named) == 1:
            allowed += named
        else:
            return None
    return allowed


def _locked(path, *, wait):
    """Open and lock ``path`` and return its descriptor; None if another process holds the lock."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _reserved(folder, card):
    """MB that each running job has reserved of a card. Files of finished jobs are removed.

    Call it only while holding the lock of the folder.
    """
    megabytes = []
    for path in folder.glob(f"{card.uuid}.*"):
        descriptor = _locked(path, wait=False)
        if descriptor is None:
            megabytes.append(int(path.read_text()))
        else:
            path.unlink()
            os.close(descriptor)
    return megabytes


def _try(folder, find_cards, needed):
    """Try to reserve memory of the card with the fewest jobs: ((descriptor, card) or None, status)."""
    turn = _locked(folder / "turn", wait=True)
    try:
        choices, words = [], []
        for number, card in enumerate(find_cards()):
            jobs = _reserved(folder, card)
            room = card.total - KEPT - sum(jobs)
            words.append(
                f"{card.uuid}: {len(jobs)} jobs, {max(0, room)} of {card.total} MB available"
            )
            # A job with an estimate above the memory of the card may use the whole card.
            wanted = min(needed, card.total - KEPT)
            if wanted <= room and (wanted <= card.free or (not jobs and wanted < needed)):
                choices.append((len(jobs), -room, number, card, wanted))
        if not choices:
            return None, "; ".join(words)
        *_, card, wanted = min(choices)
        path = folder / f"{card.uuid}.{os.getpid()}.{time.monotonic_ns()}"
        descriptor = _locked(path, wait=False)
        os.write(descriptor, str(wanted).encode())
        return (descriptor, card), ""
    finally:
        os.close(turn)


def _folder():
    folder = Path(tempfile.gettempdir()) / f"dml_gpu_slots_{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise StudyError(f"{folder} belongs to another user; remove it, or set another TMPDIR")
    return folder


def take(needed, *, find_cards=installed_cards, folder=None):
    """Reserve ``needed`` MB of a card until this process ends, and make only that card visible to CUDA.

    Call it before the first use of CUDA. While no card has enough room, it waits and logs that. Returns
    the descriptor that holds the reservation, or None if there is no choice: no GPU, none allowed by
    CUDA_VISIBLE_DEVICES, or SLURM has already assigned one. If SLURM assigned several cards to a job,
    they are shared as on a machine without SLURM.
    """
    variable = os.environ.get("CUDA_VISIBLE_DEVICES")
    found = visible(find_cards(), variable)
    if not found or ("SLURM_JOB_ID" in os.environ and (variable is None or len(found) == 1)):
        return None
    folder, said = folder or _folder(), None
    while True:
        found, words = _try(folder, lambda: visible(find_cards(), variable) or [], needed)
        if found:
            descriptor, card = found
            os.environ["CUDA_VISIBLE_DEVICES"] = card.uuid
            logging.info("using GPU %s; %d MB of it are reserved", card.uuid, needed)
            return descriptor
        if said is None or time.monotonic() - said > REMIND:
            said = time.monotonic()
            logging.warning("waiting for a GPU with %d MB available (%s)", needed, words)
        time.sleep(POLL)


def take_for(recipe, *sizes):
    """`take` what training ``recipe`` on packs of these bytes needs; nothing for a job of the CPU."""
    if recipe.device == "cpu":
        return None
    return take(needed_megabytes(recipe, *sizes))


def take_to_embed(recipe, size):
    """`take` what embedding images needs, with a pack of ``size`` bytes; ``recipe``: a `FeatureRecipe`."""
    if recipe.device == "cpu":
        return None
    return take(-(-(embedding_bytes(recipe) + size) // MB))
