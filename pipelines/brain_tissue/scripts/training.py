"""The training loop: seeded, checkpointed, restartable; the weights kept are a running mean of those
trained.
"""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as functional
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from .sources import Source
from .synthesis import Recipe, make_example


class Examples(Dataset[tuple[Tensor, Tensor]]):
    """Endless examples, each made from its own seed: number i is the same in every run with the same seed."""

    def __init__(
        self, sources: list[Source], recipe: Recipe, seed: int, first: int, count: int, side: int
    ) -> None:
        self.sources, self.recipe = sources, recipe
        self.seed, self.first, self.count, self.side = seed, first, count, side

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        if index >= self.count:
            raise IndexError(index)
        seed = self.seed * 1_000_003 + self.first + index
        return make_example(self.sources, self.recipe, seed, self.side)


def tissue_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy plus the soft Dice loss of CSF, grey and white matter. (B, 4, X, Y, Z) and (B, X, Y,
    Z).
    """
    entropy = functional.cross_entropy(logits, labels)
    chance = logits.softmax(dim=1)
    truth = functional.one_hot(labels, logits.shape[1]).permute(0, 4, 1, 2, 3).to(chance.dtype)
    over = (0, 2, 3, 4)
    overlap = (chance * truth).sum(over)[1:]
    size = (chance + truth).sum(over)[1:]
    return entropy + (1.0 - (2.0 * overlap + 1.0) / (size + 1.0)).mean()


def learning_rate(step: int, steps: int, peak: float, warm_up: int = 100) -> float:
    """Linear warm-up, then a cosine down to a hundredth of the peak."""
    if step < warm_up:
        return peak * (step + 1) / warm_up
    done = (step - warm_up) / max(1, steps - warm_up)
    return peak * (0.01 + 0.99 * 0.5 * (1.0 + math.cos(math.pi * min(1.0, done))))


class RunningMean:
    """An exponential mean of the weights, quick at first, slow later."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.state = {name: value.detach().clone() for name, value in network.state_dict().items()}

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Take in the weights after this step."""
        decay = min(self.decay, (1.0 + step) / (10.0 + step))
        for name, value in network.state_dict().items():
            self.state[name].lerp_(value, 1.0 - decay)


def save_weights(state: dict[str, Tensor], path: Path) -> None:
    """Write the weights as 16-bit floating point."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: value.to(torch.float16).contiguous() for name, value in state.items()}, str(path))


def _remaining(stages: list[dict[str, Any]], start: int) -> list[tuple[int, dict[str, Any]]]:
    """The stages, each ending at its `until`, that are not over at a step: (first step to do, stage)."""
    firsts = [0, *(stage["until"] for stage in stages[:-1])]
    pairs = zip(firsts, stages, strict=True)
    return [(max(first, start), stage) for first, stage in pairs if stage["until"] > start]


class Trainer:
    """Trains the network in stages and keeps what it does in `workspace`.

    A stage has the step `until` which it lasts, the `side` of its crops in mm, the `horizon` (the step at
    which its learning rate would run out), and what it changes of the `recipe`.
    """

    def __init__(
        self, network: nn.Module, sources: list[Source], settings: dict[str, Any], workspace: str
    ) -> None:
        self.network = network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        self.sources = sources
        self.settings = settings
        self.workspace = Path(workspace)
        self.optimizer = torch.optim.AdamW(
            network.parameters(), lr=1e-3, weight_decay=settings["weight_decay"]
        )
        self.mean = RunningMean(network, settings["mean_decay"])
        self.step = 0
        self.seconds = 0.0

    def resume(self) -> None:
        """Go on from the last checkpoint, if there is one."""
        path = self.workspace / "checkpoint.pt"
        if path.is_file():
            stored = torch.load(path, weights_only=True)
            self.network.load_state_dict(stored["network"])
            self.optimizer.load_state_dict(stored["optimizer"])
            self.mean.state = stored["mean"]
            self.step, self.seconds = stored["step"], stored["seconds"]

    def save(self) -> None:
        """Write the checkpoint and the weights so far."""
        self.workspace.mkdir(parents=True, exist_ok=True)
        state = {"network": self.network.state_dict(), "optimizer": self.optimizer.state_dict()}
        state |= {"mean": self.mean.state, "step": self.step, "seconds": self.seconds}
        torch.save(state, self.workspace / "checkpoint.part")
        (self.workspace / "checkpoint.part").replace(self.workspace / "checkpoint.pt")
        save_weights(self.mean.state, self.workspace / "model.safetensors")

    def _one(self, image: Tensor, labels: Tensor, horizon: int) -> float:
        """One step of the optimiser; the loss before it."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.step, horizon, self.settings["peak_rate"])
        loss = tissue_loss(self.network(image), labels)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.network.parameters(), 2.0)
        self.optimizer.step()
        self.mean.update(self.network, self.step)
        return float(loss.detach())

    def _note(self, losses: list[float]) -> None:
        """A line in the log and on the screen."""
        line = {
            "step": self.step,
            "loss": round(sum(losses) / len(losses), 4),
            "seconds": round(self.seconds),
        }
        with (self.workspace / "log.jsonl").open("a", encoding="utf-8") as log:
            log.write(json.dumps(line) + "\n")
        print(json.dumps(line), flush=True)

    def _stage(self, first: int, stage: dict[str, Any]) -> float:
        """Train from a step to the end of a stage; the last mean loss."""
        batch, last, settings = self.settings["batch"], stage["until"], self.settings
        recipe = Recipe(**settings["recipe"] | stage.get("recipe", {}))
        count = (last - first) * batch
        examples = Examples(self.sources, recipe, settings["seed"], first * batch, count, stage["side"])
        recent: list[float] = []
        losses: list[float] = []
        since = time.monotonic()
        for image, labels in DataLoader(examples, batch_size=batch, num_workers=settings["workers"]):
            losses.append(self._one(image, labels, stage["horizon"]))
            self.step += 1
            now = time.monotonic()
            self.seconds, since = self.seconds + now - since, now
            if self.step % settings["every"] == 0 or self.step == last:
                recent, losses = losses, []
                self._note(recent)
                self.save()
        return sum(recent) / len(recent)

    def run(self) -> dict[str, float]:
        """Train from the last checkpoint to the end of the last stage; steps, seconds, last mean loss."""
        torch.manual_seed(self.settings["seed"])
        torch.set_num_threads(self.settings["threads"])
        self.resume()
        self.workspace.mkdir(parents=True, exist_ok=True)
        self.network.train()
        loss = float("nan")
        for first, stage in _remaining(self.settings["stages"], self.step):
            loss = self._stage(first, stage)
        return {"steps": self.step, "seconds": self.seconds, "loss": loss}


def train(
    network: nn.Module, sources: list[Source], settings: dict[str, Any], workspace: str
) -> dict[str, float]:
    """Entry of configs/train.json."""
    return Trainer(network, sources, settings, workspace).run()
