"""Batches of images from a pack, and the order in which a training sees them."""

import numpy as np
import torch

from dmlstudy.files import StudyError

# Channel means and deviations of ImageNet, which torchvision's weights expect (pixels in 0…1).
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


class ImageBatches:
    """Square crops of a pack's images, cut out in one indexing operation on the device.

    ``size`` is the side of the crops in pixels. Raises ValueError if an image is smaller.
    """

    def __init__(self, pack, size, device):
        self.pack = pack
        self.size = size
        self.device = device
        self.heights = torch.from_numpy(pack.heights)
        self.widths = torch.from_numpy(pack.widths)
        self.offsets = torch.from_numpy(pack.offsets)
        if min(self.heights.min(), self.widths.min()) < size:
            raise ValueError(f"the pack holds images smaller than crops of {size} pixels")
        pixels = torch.from_numpy(pack.pixels).to(device)
        # Row k of this view is the run of bytes that starts at byte k and is one crop's row long.
        run = 3 * size
        self.runs = pixels.as_strided((len(pixels) - run + 1, run), (1, 1))
        self.mean = torch.tensor(MEAN, device=device).view(1, 3, 1, 1) * 255
        self.std = torch.tensor(STD, device=device).view(1, 3, 1, 1) * 255

    def __len__(self):
        return len(self.offsets)

    def crops(self, rows, tops, lefts, flips=None):
        """Pixels (batch, 3, size, size), uint8, channels-last, of images ``rows``.

        ``rows``, ``tops``, ``lefts``: int64 tensors (batch,) on the CPU; ``flips``: booleans, which
        crops to mirror.
        """
        lines = tops[:, None] + torch.arange(self.size)
        starts = self.offsets[rows][:, None] + 3 * (
            lines * self.widths[rows][:, None] + lefts[:, None]
        )
        batch = self.runs[starts.flatten().to(self.device)]
        batch = batch.view(len(rows), self.size, self.size, 3).permute(0, 3, 1, 2)
        if flips is not None:
            flips = flips.to(self.device).view(-1, 1, 1, 1)
            batch = torch.where(flips, batch.flip(3), batch)
        return batch

    def centre(self, rows):
        """Centre crops, as torchvision's CenterCrop rounds."""
        # torch.round and Python's round both go to the even neighbour.
        tops = torch.round((self.heights[rows] - self.size) / 2).long()
        lefts = torch.round((self.widths[rows] - self.size) / 2).long()
        return self.crops(rows, tops, lefts)

    def random(self, rows, generator):
        """Random crops, uniform over all positions, half of them mirrored."""
        drawn = torch.rand(3, len(rows), generator=generator, dtype=torch.float64)
        tops = (drawn[0] * (self.heights[rows] - self.size + 1)).long()
        lefts = (drawn[1] * (self.widths[rows] - self.size + 1)).long()
        return self.crops(rows, tops, lefts, drawn[2] < 0.5)

    def normalise(self, pixels):
        """float32 images for the model: pixels in 0…1, less ImageNet's mean, by its deviation."""
        normalised = (pixels.to(torch.float32) - self.mean) / self.std
        return normalised.contiguous(memory_format=torch.channels_last)


def epoch_batches(labels, batch_size, seed, *, samples_per_class=None):
    """One epoch as a list of int64 tensors of positions into ``labels``.

    Without ``samples_per_class``: a random permutation in batches; the last one holds the rest, and
    a rest of one image joins the batch before it, since BatchNorm cannot work on one image and no
    image may be lost. With ``samples_per_class``: pytorch-metric-learning's MPerClassSampler, whose
    batches hold that many images of each of ``batch_size / samples_per_class`` classes.
    Raises ValueError for fewer than two images, StudyError for too few classes to fill a batch.
    """
    count = len(labels)
    if count < 2:
        raise ValueError(f"training needs at least two images, found {count}")
    if samples_per_class:
        from pytorch_metric_learning.samplers import MPerClassSampler

        if samples_per_class * len(np.unique(labels)) < batch_size:
            raise StudyError(
                f"samples_per_class {samples_per_class} of {len(np.unique(labels))} classes do not "
                f"fill a batch of {batch_size}; lower batch_size or raise samples_per_class"
            )
        # The sampler draws from NumPy's global generator.
        state = np.random.get_state()
        np.random.seed(seed % 2**32)
        try:
            length = max(count, batch_size)
            sampler = MPerClassSampler(labels, samples_per_class, batch_size, length)
            order = torch.tensor(list(sampler))
        finally:
            np.random.set_state(state)
        return list(order.split(batch_size))
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    batches = list(order.split(batch_size))
    if len(batches) > 1 and len(batches[-1]) == 1:
        batches[-2:] = [torch.cat(batches[-2:])]
    return batches
