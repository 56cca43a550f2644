"""Training without a cluster: `fit(model, batches)` runs on a list.

state = State.create(LAformer(SIZES["tiny"]), TrainConfig(steps=4, ...))
fit(state, [batch] * 4, config)
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from laformer import metrics, parallel
from laformer.batches import Array, Batch, to_tensor
from laformer.config import TrainConfig
from laformer.errors import TrainingError
from laformer.guard import Failed, Skips
from laformer.losses import weighted
from laformer.memory import free_bytes
from laformer.model import LAformer
from laformer.schedule import learning_rate
from laformer.stripes import restore_within


@dataclass
class State:
    """All that training changes. Everything in it is in a checkpoint."""

    model: LAformer
    """The network, unwrapped."""
    ema: dict[str, Tensor]
    """Averaged weights, the ones that are validated and released."""
    optimizer: torch.optim.AdamW
    """Averages of gradients, per parameter of `model`."""
    step: int = 0
    """Steps done or skipped; also the cursor into the samples."""
    skips: Skips = field(default_factory=Skips)
    """Steps whose gradient was no number."""
    forward: nn.Module = field(init=False)
    """What a step calls: the network, or the network wrapped for several workers."""

    def __post_init__(self) -> None:
        """Call the bare network until somebody wraps it."""
        self.forward = self.model

    @classmethod
    def create(cls, model: LAformer, config: TrainConfig) -> "State":
        """Return the state before the first step."""
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        optimizer = adamw(model, config)
        ema = {name: value.detach().clone() for name, value in model.state_dict().items()}
        state = cls(model=model, ema=ema, optimizer=optimizer)
        state.forward = parallel.wrapped(model, config)
        return state


def adamw(model: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """Return the optimiser before the first step."""
    return torch.optim.AdamW(
        model.parameters(), lr=config.lr, betas=config.betas, weight_decay=config.weight_decay
    )


@dataclass(frozen=True)
class StepResult:
    """What one step did."""

    loss: Tensor
    """Mean loss of this worker's samples, before the step."""
    grad_norm: Tensor
    """Norm of the gradient before clipping."""
    lr: float
    """Learning rate of the step."""
    sample_ids: Array
    """What it learned from."""
    skipped: bool
    """Whether the gradient was no number, so that nothing was learned."""


def fit(
    state: State,
    batches: Iterable[Batch],
    config: TrainConfig,
    *,
    after_step: Callable[[State, StepResult], None] = lambda _state, _result: None,
) -> State:
    """Train until `config.steps` are done or the batches end; return the same state."""
    state.forward.train()
    for batch in batches:
        if state.step >= config.steps:
            break
        result = train_step(state, batch, config)
        after_step(state, result)
    return state


def train_step(state: State, batch: Batch, config: TrainConfig) -> StepResult:
    """Do one step: forward, loss, backward, clipped update, average.

    A gradient that is no number leaves all but the counts as it was. To know it costs one wait for
    the device a step. Workers share gradients, so all of them skip. Raises TrainingError above
    `config.max_skipped` steps in a row.
    """
    lr = learning_rate(state.step, config)
    for group in state.optimizer.param_groups:
        group["lr"] = lr
    loss = backward(state, batch, config)
    norm = nn.utils.clip_grad_norm_(state.model.parameters(), config.clip_norm)
    grad_norm = parallel.whole(norm)
    skipped = not grad_norm.isfinite().item()
    state.step += 1
    if skipped:
        failed = Failed(
            step=state.step - 1,
            loss=loss.item(),
            grad_norm=grad_norm.item(),
            sample_ids=batch.sample_ids,
        )
        state.skips.skip(failed, config.max_skipped)
    else:
        state.optimizer.step()
        state.skips.done()
        update_ema(state, config.ema_decay)
    return StepResult(loss, grad_norm, lr, batch.sample_ids, skipped)


def backward(state: State, batch: Batch, config: TrainConfig) -> Tensor:
    """Leave the gradient of the mean loss in the weights; return this worker's loss.

    The batch goes through the network in `config.accumulate` parts, one after the other; workers
    exchange the sum of the gradients with the last, those of a cut network with every one.
    """
    losses: list[Tensor] = []
    half = config.precision == "bfloat16"
    for index, part in enumerate(batch.parts(config.accumulate), start=1):
        with parallel.exchanging(state.forward, now=index == config.accumulate):
            with torch.autocast(part.lq.device.type, dtype=torch.bfloat16, enabled=half):
                restored = state.forward(part.lq)
            loss = weighted(config.loss)(restored, part.gt)
            if index == 1:
                # Freed before the forward pass, their memory costs a CPU 5 % of a step.
                state.optimizer.zero_grad(set_to_none=True)
            # 1 / parts, but no number where the loss is none: the derivative of |x| there is 0,
            # and only the gradient tells the other workers.
            share = 1 / config.accumulate + 0 * loss.detach()
            loss.backward(share)  # type: ignore[no-untyped-call]
        losses.append(loss.detach())
    return torch.stack(losses).mean()


@torch.no_grad()
def update_ema(state: State, decay: float) -> None:
    """Move the averaged weights towards the present ones; early steps average over fewer."""
    decay = min(decay, (1 + state.step) / (10 + state.step))
    for name, value in state.model.state_dict().items():
        state.ema[name].lerp_(value, 1 - decay)


@contextmanager
def averaged(state: State) -> Iterator[LAformer]:
    """Lend the network with its averaged weights, ready to restore; take it back as it was.

    Of a network cut over workers a whole copy is lent, and all workers must ask for it.
    """
    if parallel.is_sharded(state.model):
        # Shares are gathered only where all workers compute a block at the same time: here each
        # restores other photos, of other sizes, in as many stripes as its memory asks for.
        device = next(state.model.parameters()).device
        yield parallel.whole_network(state.model.config, state.ema, device).eval()
        return
    trained = {name: value.detach().clone() for name, value in state.model.state_dict().items()}
    state.model.load_state_dict(state.ema)
    state.model.eval()
    try:
        yield state.model
    finally:
        state.model.load_state_dict(trained)
        state.model.train()


@dataclass(frozen=True)
class Validated:
    """One held-out image and what became of it."""

    key: str
    lq: Array
    restored: Array
    gt: Array
    psnr_db: float


def rgb_psnr_db(restored: Array, gt: Array) -> float:
    """Return the PSNR in dB over all channels, after rounding to 8 bits."""
    return metrics.psnr(metrics.quantise(restored), gt)


@torch.no_grad()
def validate(
    model: LAformer,
    rows: Iterable[dict[str, Array]],
    judge: Callable[[Array, Array], float] = rgb_psnr_db,
    memory_bytes: int | None = None,
) -> Iterator[Validated]:
    """Restore rows {key, lq, gt} one by one; `judge` compares floats in [0, 1] with uint8.

    An image that takes more than `memory_bytes` at once, by default half of what the device has
    free, is restored in stripes.
    """
    device = next(model.parameters()).device
    for row in rows:
        budget = memory_bytes or free_bytes(device) // 2
        whole = restore_within(model, to_tensor(row["lq"], device), budget)
        restored = whole[0].permute(1, 2, 0).cpu().numpy()
        if not np.isfinite(restored).all():
            raise TrainingError(
                f"the network restores {row['key']} to values that are no numbers; "
                "lower lr or clip_norm and start again under a new name"
            )
        gt = metrics.quantise(to_tensor(row["gt"])[0].permute(1, 2, 0).numpy())
        lq = metrics.quantise(to_tensor(row["lq"])[0].permute(1, 2, 0).numpy())
        psnr_db = judge(restored, gt)
        yield Validated(str(row["key"]), lq, metrics.quantise(restored), gt, psnr_db)
