"""Two random views of each image (Chen et al., ICML 2020), by lightly's SimCLR transform."""

import numpy as np
import torch
from lightly.transforms.simclr_transform import SimCLRViewTransform
from PIL import Image

TRAIN_RESIZE = ("shorter", "margin")
TEST_RESIZE = ("shorter", "exact")
# Of each image in a batch.
VIEWS = 2


def build(
    images,
    *,
    jitter_strength: float = 1.0,
    min_scale: float = 0.08,
    blur_probability: float = 0.5,
):
    """Function (rows, generator) → views (2 · batch, 3, size, size): all first, then all second views."""
    transform = SimCLRViewTransform(
        input_size=images.size,
        cj_strength=jitter_strength,
        min_scale=min_scale,
        gaussian_blur=blur_probability,
    )

    def views(rows, generator):
        # The transform draws from the global generators of torch and (its blur) of NumPy.
        seed = int(torch.randint(2**31, (1,), generator=generator))
        state = np.random.get_state()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            np.random.seed(seed)
            pictures = [Image.fromarray(images.pack.image(row)) for row in rows.tolist()]
            batch = torch.stack([transform(picture) for _ in range(2) for picture in pictures])
        np.random.set_state(state)
        return batch.to(images.device).contiguous(memory_format=torch.channels_last)

    return views
