"""A card for each job on a machine with several GPUs, or several small jobs on one; without torch.

Snakemake counts `gpu` but gives nobody a card. Here a job reserves memory of a card: a file per job
says how many MB, and stays locked (flock) until the job ends. The kernel releases the lock however a
job ends, also by `kill -9`; who looks next removes the file. Reservations of a card never add up to
more than its memory. Files lie where all jobs of a user on a machine see them.
"""

import fcntl
import logging
import os
import subprocess
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from dmlstudy.compute.memory import needed_megabytes
from dmlstudy.core.files import StudyError

# What the driver and a screen keep for themselves, in MB.
KEPT = 700
POLL, REMIND = 1.0, 60.0
QUERY = ("nvidia-smi", "--query-gpu=uuid,memory.total,memory.free", "--format=csv,noheader,nounits")


class Card(NamedTuple):
    """A GPU: its name for CUDA, and its memory in MB, all of it and what nobody uses now."""

    uuid: str
    total: int
    free: int


def installed_cards():
    """The machine's GPUs in nvidia-smi's order; none where there is no driver."""
    try:
        found = subprocess.run(QUERY, capture_output=True, text=True, check=True, timeout=60).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    cards = []
    for line in found.splitlines():
        uuid, total, free = (value.strip() for value in line.split(","))
        # Some machines do not tell a card's memory; such a card is left to CUDA.
        if total.isdigit() and free.isdigit():
            cards.append(Card(uuid, int(total), int(free)))
    return cards


def visible(cards, variable):
    """Those cards that a CUDA_VISIBLE_DEVICES (or None) allows; None for words that are not understood."""
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
    """An open descriptor of ``path`` that holds its lock; None if another does."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _reserved(folder, card):
    """MB of each job that has reserved memory of a card. Files of jobs that have ended are removed.

    To be called under the folder's lock.
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
    """Reserve memory of the card with the fewest jobs: ((descriptor, card), how things stand)."""
    turn = _locked(folder / "turn", wait=True)
    try:
        choices, words = [], []
        for number, card in enumerate(find_cards()):
            jobs = _reserved(folder, card)
            room = card.total - KEPT - sum(jobs)
            words.append(
                f"{card.uuid}: {len(jobs)} jobs, {max(0, room)} of {card.total} MB to give"
            )
            # A job that is larger than the card, as reckoned, may have all of it.
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
        raise StudyError(f"{folder}: belongs to another user; remove it, or set another TMPDIR")
    return folder


def take(needed, *, find_cards=installed_cards, folder=None):
    """Reserve ``needed`` MB of a card until this process ends, and show CUDA that card only.

    To be called before CUDA is first used. Waits, and says so, while no card has room. Returns the
    descriptor that holds the reservation; None where there is nothing to choose: no GPU, none that
    CUDA_VISIBLE_DEVICES allows, or under SLURM, which has chosen. Where SLURM gave one job several cards,
    they are shared out as on a machine of one's own.
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
            logging.info("GPU %s, of which %d MB are reserved", card.uuid, needed)
            return descriptor
        if said is None or time.monotonic() - said > REMIND:
            said = time.monotonic()
            logging.warning("waiting for a GPU with %d MB to give (%s)", needed, words)
        time.sleep(POLL)


def take_for(recipe, *packs):
    """`take` what training ``recipe`` on these pack folders needs; nothing for a job of the CPU."""
    if recipe.device == "cpu":
        return None
    sizes = [(Path(pack) / "pixels.bin").stat().st_size for pack in packs]
    return take(needed_megabytes(recipe, *sizes))
