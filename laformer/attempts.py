"""Restoring without giving up: with less memory when there is none left, with more digits.

A failed attempt leaves nothing behind: the next one starts from the same pixels.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from laformer.config import Context
from laformer.errors import ModelError
from laformer.memory import Size, free_bytes
from laformer.model import LAformer
from laformer.stripes import restore_in_stripes

NO_MEMORY = "can't allocate memory"
"""What the RuntimeError of torch's allocator on the CPU says."""


@dataclass
class Attempts:
    """Restores tensors with one network, and remembers what it had to do for them."""

    model: LAformer
    exact: LAformer | None = None
    """The same network in float32, for what it makes no numbers of; None when it is float32."""
    context: Context = "auto"
    """whole takes what it needs, stripes and auto keep to the budget."""
    memory_bytes: int | None = None
    """Budget of one call; a share of what is free at that moment when not given."""
    neighbours: int = 0
    """Other processes that take from the same memory of the computer at the same moment."""
    context_used: str = ""
    """whole or stripes, of the last call."""
    notes: list[str] = field(default_factory=list)
    """What went wrong on the way, once each."""

    def __call__(self, lq: Tensor) -> Tensor:
        """Restore lq (B, C, H, W). Raises ModelError when nothing helps."""
        restored = self._restored(self.model, lq)
        if finite(restored):
            return restored
        if self.exact is not None:
            del restored
            self._note("in float32 after bfloat16 gave no numbers")
            restored = self._restored(self.exact, lq)
            if finite(restored):
                return restored
        raise ModelError("the restored image has values that are no numbers; nothing written")

    def _restored(self, model: LAformer, lq: Tensor) -> Tensor:
        """Restore within a budget that halves whenever memory runs out."""
        # One share stays free; a GPU has no neighbours.
        shares = 2 + (self.neighbours if lq.device.type == "cpu" else 0)
        budget = self.memory_bytes or free_bytes(lq.device) // shares
        at_once = self.context == "whole" or (self.context != "stripes" and fits(model, lq, budget))
        while True:
            try:
                return self._once(model, lq, budget, at_once=at_once)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
            # Outside of the handler, which would keep the tensors of the attempt alive.
            if lq.device.type == "cuda":
                torch.cuda.empty_cache()
            self._note("after running out of memory")
            budget, at_once = budget // 2, False

    def _once(self, model: LAformer, lq: Tensor, budget: int, *, at_once: bool) -> Tensor:
        self.context_used = "whole" if at_once else "stripes"
        if at_once:
            whole: Tensor = model(lq)
            return whole
        try:
            return restore_in_stripes(model, lq, memory_bytes=budget)
        except ModelError as error:
            height, width = lq.shape[2:]
            raise ModelError(
                f"{width} x {height} pixels do not fit: {', '.join([str(error), *self.notes])}; "
                "or use --context tiles, or a machine with more memory"
            ) from error

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)


def fits(model: LAformer, lq: Tensor, budget: int) -> bool:
    """Return whether the prediction for the whole image keeps to a budget in bytes."""
    size = Size(
        config=model.config,
        height=lq.shape[2],
        width=lq.shape[3],
        dtype=model.embed.weight.dtype,
        image_dtype=lq.dtype,
    )
    return size.whole_bytes(model.embed.weight.device) <= budget


def is_out_of_memory(error: Exception) -> bool:
    """Return whether an error says that memory ran out, of the device or of the computer."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and NO_MEMORY in str(error)


def finite(image: Tensor) -> bool:
    """Return whether all values are numbers, in the memory of a few rows."""
    return all(bool(torch.isfinite(rows).all()) for rows in torch.split(image, 64, dim=2))
