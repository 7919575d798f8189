"""The training loop: one for every method. It knows tasks and batches, and nothing of faces.

A step number, a recipe and a checkpoint define all that follows. What a step draws depends on
(seed, step, rank) only; the checkpoint holds weights, optimisers and averages exactly. So a run
that was killed repeats, bit for bit on the same machine, what it would have done.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import torch
from lightning_fabric import Fabric
from lightning_fabric.wrappers import _FabricModule, _FabricOptimizer
from rich.console import Console
from torch import Tensor, nn

from sdic.errors import TrainingError
from sdic.training import checkpoint, state
from sdic.training.data import derive_seed
from sdic.training.guards import locked, stop_on_signal
from sdic.training.log import Reporter, RunLog
from sdic.training.optimiser import Ema, create, learning_rate
from sdic.training.recipe import Recipe
from sdic.training.task import Batch, Data, Phase, Task

# Layouts of convolutions' weights, by their dimensions; maps follow.
CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}

OnStep = Callable[[int, dict[str, float]], None]


@dataclass(frozen=True)
class Outcome:
    """How a call of `train` ended: steps done, and whether that is all of them."""

    step: int
    finished: bool


@dataclass
class _Clock:
    """Whether there is time for another step before the deadline."""

    deadline: float
    longest: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def measure(self, what: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        self.longest[what] = max(self.longest.get(what, 0.0), time.monotonic() - began)

    def allows(self, what: str) -> bool:
        """Whether `what` and a checkpoint after it would end in time, as far as is known."""
        needed = self.longest.get(what, 0.0) + self.longest.get("checkpoint", 0.0)
        return time.monotonic() + 1.2 * needed < self.deadline


class Trainer:
    """A task, its data and its recipe, on the devices of a Fabric.

    Args:
        task: what is trained.
        data: its batches.
        recipe: seed, steps, optimiser, intervals.
        fabric: devices and precision; launched already.
        out: the run's folder; checkpoints there are resumed.
        validation: images [M,3,H,W] that are never trained on, or None.
        console: where progress is shown; None is silent.
    """

    def __init__(
        self,
        task: Task,
        data: Data,
        recipe: Recipe,
        fabric: Fabric,
        out: Path,
        validation: Tensor | None = None,
        console: Console | None = None,
    ) -> None:
        self.task, self.data, self.recipe, self.fabric = task, data, recipe, fabric
        self.out, self.validation = out, validation
        self.console = console or Console(quiet=True)
        self.step = 0
        self.phases = list(task.phases())
        self._place()
        self.raw = {name: _unwrapped(network) for name, network in task.networks.items()}
        self.ema = Ema(self.raw, recipe.ema_decay)

    def train(
        self, seconds: float = math.inf, stop_at: int | None = None, on_step: OnStep | None = None
    ) -> Outcome:
        """Train until the recipe's steps are done, or `stop_at`, or the time is over.

        Args:
            seconds: wall clock from now on; a checkpoint is written within it.
            stop_at: stop after this many steps in all, with a checkpoint.
            on_step: called after each step with its number (from 1) and its losses.

        Raises:
            TrainingError: the checkpoint is not of this recipe, a loss or gradient is not finite,
                the disk is full, or another process trains into the same folder.
        """
        clock = _Clock(time.monotonic() + seconds)
        last = self.recipe.steps if stop_at is None else min(stop_at, self.recipe.steps)
        with ExitStack() as stack:
            if self.fabric.is_global_zero:
                stack.enter_context(locked(self.out))
            stack.enter_context(torch.random.fork_rng())
            stop = stack.enter_context(stop_on_signal())
            changed = self.resume()
            log, reporter = self._open_log(stack, changed)
            self._loop(last, clock, stop, log, reporter, on_step)
            return Outcome(self.step, self.step >= self.recipe.steps)

    def resume(self) -> list[str]:
        """Load the newest checkpoint of the run, if there is one.

        Returns:
            What the recipe says otherwise than when the run began, where that is allowed.

        Raises:
            TrainingError: the checkpoint is damaged, or of another run.
        """
        found = checkpoint.latest(self.out)
        if found is None:
            return []
        self.step, tensors, extra = checkpoint.load(found)
        try:
            changed = state.check_recipe(extra["recipe"], self.recipe)
            state.restore(tensors, extra, self.raw, self._plain_optimisers(), self.ema)
            processes = extra["world_size"]
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            raise TrainingError(
                f"{found} holds no whole state of a run; restore it or start a new run."
            ) from error
        if processes != self.fabric.world_size:
            changed.append(f"processes: {processes} -> {self.fabric.world_size}")
        return changed

    def save(self) -> None:
        """Write a checkpoint of this step (the first process does; all of them wait)."""
        compact = self.recipe.storage == "compact"
        tensors, extra = state.collect(self.raw, self._plain_optimisers(), self.ema, compact)
        if self.fabric.is_global_zero:
            extra |= {"recipe": self.recipe.to_dict(), "world_size": self.fabric.world_size}
            checkpoint.save(self.out, self.step, tensors, extra)
        self.fabric.barrier()

    def _place(self) -> None:
        """Networks to their devices and layout, wrapped; one optimiser for each phase."""
        for frozen in self.task.frozen():
            self._layout(frozen)
            frozen.to(self.fabric.device)
        for name, network in self.task.networks.items():
            self._layout(network)
            self.task.networks[name] = self.fabric.setup_module(network)
        self.optimisers: dict[str, _FabricOptimizer] = {}
        for phase in self.phases:
            parameters = [p for name in phase.modules for p in self._parameters(name)]
            optimiser = self.fabric.setup_optimizers(create(self.recipe.optimiser, parameters))
            self.optimisers[phase.name] = cast(_FabricOptimizer, optimiser)

    def _layout(self, module: nn.Module) -> None:
        if self.recipe.channels_last:
            for tensor in (*module.parameters(), *module.buffers()):
                if tensor.ndim in CHANNELS_LAST:
                    memory_format = CHANNELS_LAST[tensor.ndim]
                    tensor.data = tensor.data.contiguous(memory_format=memory_format)

    def _parameters(self, name: str) -> list[nn.Parameter]:
        return list(_unwrapped(self.task.networks[name]).parameters())

    def _plain_optimisers(self) -> dict[str, torch.optim.Optimizer]:
        return {name: wrapped.optimizer for name, wrapped in self.optimisers.items()}

    def _open_log(self, stack: ExitStack, changed: Sequence[str]) -> tuple[RunLog | None, Reporter]:
        if not self.fabric.is_global_zero:
            return None, Reporter(Console(quiet=True), self.recipe.steps, self.step)
        log = RunLog(self.out, self.step)
        stack.callback(log.close)
        if self.step:
            note = f"; changed since: {', '.join(changed)}" if changed else ""
            self.console.print(f"resuming at step {self.step}{note}", highlight=False, markup=False)
        reporter = Reporter(self.console, self.recipe.steps, self.step)
        stack.callback(reporter.close)
        return log, reporter

    def _loop(
        self,
        last: int,
        clock: _Clock,
        stop: threading.Event,
        log: RunLog | None,
        reporter: Reporter,
        on_step: OnStep | None,
    ) -> None:
        saved = self.step if self.step else -1
        while True:
            ending = self._agree(self.step >= last or stop.is_set() or not clock.allows("step"))
            if (ending or self.step % self.recipe.log.checkpoint == 0) and saved != self.step:
                with clock.measure("checkpoint"):
                    self.save()
                saved = self.step
            hurry = self._agree(stop.is_set() or not clock.allows("validation"))
            if not hurry:
                with clock.measure("validation"):
                    self._look(log, reporter)
            if ending:
                return
            with clock.measure("step"):
                losses = self._train_step()
            self.step += 1
            if on_step is not None:
                on_step(self.step, losses)
            reporter.step(self.step, losses)
            if log is not None and self.step % self.recipe.log.scalars == 0:
                log.scalars(self.step, {f"training/{name}": v for name, v in losses.items()})

    def _train_step(self) -> dict[str, float]:
        """All phases of one step; returns the losses, averaged over micro-steps and processes."""
        losses: dict[str, float] = {}
        rate = learning_rate(self.recipe.optimiser, self.step, self.recipe.steps)
        batches = [self._batch(i) for i in range(self.recipe.accumulate)]
        for phase in self.phases:
            losses |= self._train_phase(phase, batches)
            norm = self._check_gradients(phase)
            optimiser = self.optimisers[phase.name]
            for group in optimiser.param_groups:
                group["lr"] = rate * phase.learning_rate_scale
            optimiser.step()
            optimiser.zero_grad()
            losses[f"{phase.name}_gradient"] = norm
        losses["learning_rate"] = rate
        self.ema.update(self.step + 1)
        return losses

    def _batch(self, micro: int) -> Batch:
        index = self.step * self.recipe.accumulate + micro
        with torch.no_grad(), self.fabric.autocast():
            batch = self.data.batch(index, self.fabric.global_rank, self.fabric.world_size)
        return batch.to(self.fabric.device)

    def _train_phase(self, phase: Phase, batches: Sequence[Batch]) -> dict[str, float]:
        for name, network in self.raw.items():
            network.requires_grad_(name in phase.modules)
            network.train(name in phase.modules)
        means: dict[str, float] = {}
        for i, batch in enumerate(batches):
            torch.manual_seed(derive_seed(batch.seed, phase.name))
            with ExitStack() as stack:
                if i + 1 < len(batches) and self.fabric.world_size > 1:
                    for name in phase.modules:
                        wrapped = cast(_FabricModule, self.task.networks[name])
                        stack.enter_context(self.fabric.no_backward_sync(wrapped))
                with self.fabric.autocast():
                    losses = self.task.step(phase.name, batch, self.step)
                values = self._check_losses(losses)
                self.fabric.backward(next(iter(losses.values())) / len(batches))
            for name, value in values.items():
                means[name] = means.get(name, 0.0) + value / len(batches)
        return means

    def _check_losses(self, losses: Mapping[str, Tensor]) -> dict[str, float]:
        """Mean losses over all processes, which must be finite numbers."""
        stacked = torch.stack([loss.detach().float() for loss in losses.values()])
        reduced = self.fabric.all_reduce(stacked, reduce_op="mean")
        values = dict(zip(losses, torch.as_tensor(reduced).tolist(), strict=True))
        bad = [name for name, value in values.items() if not math.isfinite(value)]
        if bad:
            parts = [name for name in bad if name != next(iter(losses))] or bad
            raise self._not_finite(f"loss '{parts[0]}' is {values[parts[0]]}")
        return values

    def _check_gradients(self, phase: Phase) -> float:
        """The norm of the phase's gradient, clipped if the recipe says so; it must be finite."""
        named = [
            (f"{name}.{key}", parameter.grad)
            for name in phase.modules
            for key, parameter in self.raw[name].named_parameters()
            if parameter.grad is not None
        ]
        gradients = [gradient for _, gradient in named]
        norm = torch.nn.utils.get_total_norm(gradients)
        if not torch.isfinite(norm):
            culprit = next(
                (key for key, g in named if not torch.isfinite(g).all()), f"of {phase.name}"
            )
            raise self._not_finite(f"gradient '{culprit}' is not finite")
        clip = self.recipe.optimiser.clip
        if clip and norm > clip:
            torch._foreach_mul_(gradients, float(clip / norm))
        return float(norm)

    def _not_finite(self, what: str) -> TrainingError:
        kept = checkpoint.latest(self.out)
        where = f"{kept.name} from before it is kept" if kept else "no checkpoint was written yet"
        return TrainingError(
            f"Training stopped at step {self.step + 1}: {what}; {where}. Lower "
            "optimiser.learning_rate, set optimiser.clip, or try precision = 'fp32', and run again."
        )

    def _look(self, log: RunLog | None, reporter: Reporter) -> None:
        """Validate and draw, where the recipe has it due at this step."""
        settings = self.recipe
        every, images = settings.validation.every, self.validation
        seen = self._agree(log is not None and log.last_validated >= self.step)
        if every and images is not None and not seen and self._due(every):
            values = self._validate(images)
            if log is not None:
                log.validation(self.step, values)
                shown = "  ".join(f"{name} {value:.4g}" for name, value in values.items())
                reporter.say(f"step {self.step}: validation {shown}")
        if log is not None and settings.log.grid and self._due(settings.log.grid):
            with self._evaluating():
                log.grid(self.step, self.task.sample_grid(self._preview()))

    def _due(self, every: int) -> bool:
        return self.step % every == 0 or self.step == self.recipe.steps

    def _preview(self) -> Batch:
        """A fixed batch to draw: the first validation photos, or the first training batch."""
        if self.validation is None:
            return self.data.batch(0, 0, 1).to(self.fabric.device)
        images = self.validation[:4]
        latents, known = torch.zeros(len(images), 512), torch.zeros(len(images), dtype=torch.bool)
        return Batch(images, latents, known, 0).to(self.fabric.device)

    def _validate(self, images: Tensor) -> dict[str, float]:
        """Mean of each measure over all images, which the processes share among them.

        Sums are float64, and made on the CPU, since not every device has it.
        """
        size, rank, world = self.recipe.batch_size, self.fabric.global_rank, self.fabric.world_size
        own = images[rank::world]
        # Of fewer images than processes all the same: each must know what is measured.
        measured = own if len(own) else images[:1]
        totals: dict[str, float] = {}
        with self._evaluating():
            for part in torch.split(measured, size):
                for name, values in self.task.validate(part.to(self.fabric.device)).items():
                    totals[name] = totals.get(name, 0.0) + float(values.cpu().double().sum())
        names = sorted(totals)
        sums = torch.tensor([totals[name] for name in names], dtype=torch.float64)
        sums *= len(own) > 0
        if world > 1:
            sums = torch.as_tensor(self.fabric.all_reduce(sums, reduce_op="sum")).cpu()
        return {name: float(value) / len(images) for name, value in zip(names, sums, strict=True)}

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        """Averaged weights, evaluation mode, no gradients, the run's precision.

        The networks are called unwrapped: processes do not wait for each other here.
        """
        wrapped = dict(self.task.networks)
        for network in self.raw.values():
            network.eval()
        self.task.networks.update(self.raw)
        try:
            with torch.no_grad(), self.fabric.autocast(), self.ema.applied():
                yield
        finally:
            self.task.networks.update(wrapped)

    def _agree(self, decision: bool) -> bool:
        """The first process's decision, in all of them."""
        if self.fabric.world_size == 1:
            return decision
        return bool(self.fabric.broadcast(decision))


def _unwrapped(network: nn.Module) -> nn.Module:
    return network.module if isinstance(network, _FabricModule) else network
