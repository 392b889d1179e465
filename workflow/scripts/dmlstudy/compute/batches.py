"""Batches of images from a pack, and their order in a training."""

import numpy as np
import torch

from dmlstudy.compute.devices import fits, send
from dmlstudy.core.files import StudyError

# Channel means and deviations of ImageNet, which most published weights expect (pixels in 0…1).
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


class ImageBatches:
    """Square crops of the images of a pack, cut with one indexing operation per batch.

    ``size``: side of the crops in pixels; ``mean``, ``std``: of three channels, for `normalise`. On a GPU
    the pixels are kept in GPU memory if they fit and ``reserve`` bytes stay free; otherwise crops are cut
    on the host and copied. Raises ValueError if an image is smaller than the crops.
    """

    def __init__(self, pack, size, device, reserve=0, *, mean=MEAN, std=STD):
        self.pack = pack
        self.size = size
        self.device = device
        self.home = device if fits(pack.pixels.nbytes, device, reserve) else torch.device("cpu")
        self.heights = torch.from_numpy(pack.heights)
        self.widths = torch.from_numpy(pack.widths)
        if min(self.heights.min(), self.widths.min()) < size:
            raise ValueError(f"the pack has images smaller than crops of {size} pixels")
        self.pixels = torch.from_numpy(pack.pixels).to(self.home)
        self.offsets = torch.from_numpy(pack.offsets)
        layout = torch.stack([self.offsets, self.widths, self.heights - 1])
        self.layout = layout.to(self.home)
        mean, std = (torch.tensor(each, device=device).view(1, 3, 1, 1) for each in (mean, std))
        self.shift, self.scale = -mean / std, 1 / (255 * std)

    def __len__(self):
        return len(self.heights)

    @property
    def cut_on_host(self):
        """Whether the host cuts batches for another device, so that prefetching helps."""
        return self.home != self.device

    def _cut(self, rows, tops, lefts, height, width):
        """Pixels (batch, height, width, 3), uint8; everything that is read must be inside the pack."""
        run = 3 * width
        # One copy to the device instead of three.
        rows, tops, lefts = send(torch.stack([rows, tops, lefts]), self.home)
        offsets, widths, last = self.layout[:, rows, None]
        lines = torch.minimum(tops[:, None] + torch.arange(height, device=self.home), last)
        starts = offsets + 3 * (lines * widths + lefts[:, None])
        # Row k of this view holds the bytes from byte k on, as many as a row of a window has.
        runs = self.pixels.as_strided((len(self.pixels) - run + 1, run), (1, 1))
        return send(runs[starts.flatten()], self.device).view(-1, height, width, 3)

    def windows(self, rows, tops, lefts, height, width):
        """Windows of one size that contain the crops at (``tops``, ``lefts``): (pixels, down, right).

        ``pixels``: (batch, height, width, 3), uint8. The crop starts at (``down``, ``right``) in its
        window; both int64 (batch,), on the CPU. Pixels outside the image are arbitrary. Arguments: see
        `crops`. Windows must not be wider or higher than the largest image.
        """
        begins = torch.minimum(tops, (self.heights[rows] - height).clamp(min=0))
        room = self.widths[rows] - width
        # A window that is wider than its image starts earlier, so that it does not exceed the end of the
        # pack. This is not possible for the first images of the pack.
        early = torch.minimum(lefts, room)
        starts = torch.where(self.offsets[rows] + 3 * room >= 0, early, lefts)
        return self._cut(rows, begins, starts, height, width), tops - begins, lefts - starts

    def crops(self, rows, tops, lefts, flips=None):
        """Crops of the images ``rows``: (batch, 3, size, size), uint8, channels-last.

        ``rows``, ``tops``, ``lefts``: int64 tensors (batch,) on the CPU; ``flips``: boolean tensor
        (batch,), the crops to flip horizontally.
        """
        batch = self._cut(rows, tops, lefts, self.size, self.size).permute(0, 3, 1, 2)
        if flips is not None:
            flips = send(flips, self.device).view(-1, 1, 1, 1)
            batch = torch.where(flips, batch.flip(3), batch)
        return batch

    def centre(self, rows):
        """Centre crops, with the rounding of torchvision's CenterCrop."""
        # Both torch.round and Python's round round half to even.
        tops = torch.round((self.heights[rows] - self.size) / 2).long()
        lefts = torch.round((self.widths[rows] - self.size) / 2).long()
        return self.crops(rows, tops, lefts)

    def random(self, rows, generator):
        """Random crops, uniform over all positions, flipped with probability 0.5."""
        drawn = torch.rand(3, len(rows), generator=generator, dtype=torch.float64)
        tops = (drawn[0] * (self.heights[rows] - self.size + 1)).long()
        lefts = (drawn[1] * (self.widths[rows] - self.size + 1)).long()
        return self.crops(rows, tops, lefts, drawn[2] < 0.5)

    def normalise(self, pixels):
        """float32 images for the model: pixels in 0…1, less the mean, by the deviation.

        ``pixels`` (batch, 3, height, width): uint8 in 0…255, or float32 in 0…1.
        """
        scale = self.scale * 255 if pixels.is_floating_point() else self.scale
        # One pass over memory, which also converts the pixels to float32.
        normalised = torch.addcmul(self.shift, pixels, scale)
        return normalised.contiguous(memory_format=torch.channels_last)


def epoch_batches(labels, batch_size, seed, *, samples_per_class=None):
    """One epoch as a list of int64 tensors of positions into ``labels``.

    Without ``samples_per_class``: a random permutation, cut into batches. The last batch has the rest. A
    rest of one image is added to the batch before it, because BatchNorm needs more than one image.
    With ``samples_per_class``: pytorch-metric-learning's MPerClassSampler; a batch has that many images
    of each of ``batch_size / samples_per_class`` classes.
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
