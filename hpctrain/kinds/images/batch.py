"""A batch of images as the network sees it. N images, B bands, H × W pixels.

One rule holds: **weight 0 means that the pixel does not exist.** The file may say so by ivar 0 or by a mask, and
:mod:`hpctrain.kinds.images.prepare` says so for values that are not finite; later code does not need the reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace

from torch import Tensor


@dataclass(frozen=True)
class ImageBatch:
    """Some images with their metadata; preparation and augmentation return a new batch.

    Parameters
    ----------
    image : Tensor, shape (N, B, H, W), uint8, float16 or float32
        Pixel values as in the file; float32, scaled, and 0 where `weight` is 0 after preparation.
    row : Tensor, shape (N,), int64
        Row in the whole set; -1 is a padding row.
    target_id : Tensor, shape (N,), int64
        Identifier of the object; -1 in padding rows.
    ivar : Tensor, shape (N, B, H, W), float16 or float32, optional
        Inverse variance of the pixels as in the file; None where the file has none, and after preparation.
    mask : Tensor, shape (N, 1 or B, H, W), bool, optional
        True where the file masks a pixel; None where it has no mask, and after preparation.
    weight : Tensor, shape (N, B, H, W), float32, optional
        After preparation: 1 where a pixel exists, else 0; between them for binned pixels of which a part exists.
    num_bad : Tensor, shape (N,), int32, optional
        After preparation: number of pixels that are not finite or have a wrong ivar.
    is_usable : Tensor, shape (N,), bool, optional
        After preparation: whether an image has pixels that exist and are not all the same; otherwise its `weight` is 0.
    labels : mapping of str to Tensor, shape (N,)
        What the family asked the files for, such as classes to learn; -1 or NaN where there is none.
    """

    image: Tensor
    row: Tensor
    target_id: Tensor
    ivar: Tensor | None = None
    mask: Tensor | None = None
    weight: Tensor | None = None
    num_bad: Tensor | None = None
    is_usable: Tensor | None = None
    labels: Mapping[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.row)

    def replace(self, **changes: Tensor | None) -> ImageBatch:
        """Return a batch in which the named tensors are replaced."""
        return replace(self, **changes)

    def to(self, device: object, non_blocking: bool = False) -> ImageBatch:
        """Return the batch on `device`."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> ImageBatch:
        """Return the batch in page-locked host memory."""
        return self._each(lambda tensor: tensor.pin_memory())

    def everything(self) -> list[Tensor]:
        """Return all tensors of the batch."""
        return [*(tensor for tensor in self._tensors().values() if tensor is not None), *self.labels.values()]

    def tensors(self) -> dict[str, Tensor]:
        """Return image and weight of a prepared batch, which a network reads."""
        assert self.weight is not None, "only a prepared batch is read"
        return {"image": self.image, "weight": self.weight}

    def with_tensors(self, tensors: Mapping[str, Tensor]) -> ImageBatch:
        """Return a batch in which these tensors are replaced."""
        return replace(self, **tensors)

    def _each(self, change) -> ImageBatch:
        tensors = {name: tensor if tensor is None else change(tensor) for name, tensor in self._tensors().items()}
        return ImageBatch(**tensors, labels={name: change(values) for name, values in self.labels.items()})

    def _tensors(self) -> dict[str, Tensor | None]:
        return {each.name: getattr(self, each.name) for each in fields(self) if each.name != "labels"}
