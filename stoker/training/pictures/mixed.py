"""A stream of images that are mixed with each other: the same mixtures on any number of ranks."""

from dataclasses import KW_ONLY, dataclass
from typing import Any

import torch
from torch import Tensor

from stoker.training.errors import CorruptSample
from stoker.training.pictures.augmentation import mix
from stoker.training.pictures.jpeg import Pixels
from stoker.training.stream.order import share
from stoker.training.stream.stream import ShardStream


@dataclass
class MixedPictures(ShardStream):
    """Batches (images, classes, classes of the other images, shares of the own ones), see ``mix``.

    Each image is mixed with the one before it in the global batch, the first one with the last. So a rank reads and
    decodes one image of another rank with each batch. Of images that do not decode, the next one before is taken.

    ``make`` returns uint8 images (B, H, W, C), (B,) classes and the draws of each image.
    """

    _: KW_ONLY
    mixup: float = 0.0
    cutmix: float = 0.0

    def batch(self, epoch: int, start: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """See EpochStream."""
        images, classes, draws = super().batch(epoch, start)
        found = self._before(epoch, start) if len(classes) else None
        before: Pixels | None = None
        others = classes.roll(1)
        if found is not None:
            before = found[0][0].numpy()
            others[0] = found[1][0]
        shares = mix(images.numpy(), draws, mixup=self.mixup, cutmix=self.cutmix, before=before)
        return images, classes, others, torch.from_numpy(shares)

    def _before(self, epoch: int, start: int) -> tuple[Tensor, Tensor] | None:
        """Image and class before this rank's share, of another rank, as a batch of one; None if all is its own."""
        size = min(self.batch_size, self.samples - start)
        first, stop = share(size, self.rank, self.world_size)
        for back in range(1, size - (stop - first) + 1):
            position = start + (first - back) % size
            samples = self.read_samples(epoch, self.locate(epoch, position, position + 1))
            try:
                if len(samples):
                    made: tuple[Tensor, Tensor, Any] = self.assemble_batch(samples, epoch)  # Any: not looked at
                    return made[:2]
            except CorruptSample:  # the rank that has it counts it, or raises it
                continue
        return None
