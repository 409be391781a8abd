"""Training as the terminal shows it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..plural import counted
from .output import Output

if TYPE_CHECKING:
    import torch

MOST_WAITING = 0.25  # share of an epoch that a run waits for a core before it says so


def _losses(means: dict[str, float]) -> str:
    """The loss with those of its terms that there are."""
    terms = {name.removeprefix("loss_"): value for name, value in means.items() if name.startswith("loss_") and value}
    listed = " ".join(f"{name} {value:.3f}" for name, value in terms.items())
    return f"loss {means['loss']:.3f}" + (f" ({listed})" if listed else "")


def _found(metrics: dict[str, Any]) -> str:
    """Accuracies of training and held-out clips; of a stage that recognises nothing yet, whatever it measured."""
    if "val_top1" in metrics:
        return f"train {metrics['train_top1']:.1f} %  val {metrics['val_top1']:.1f} %"
    other = ("stage", "epoch", "lr", "seconds")
    return "  ".join(
        f"{name} {value:.4g}" for name, value in metrics.items() if name not in other and not name.startswith("loss")
    )


class Terminal:
    """Progress on stderr: a bar per epoch with the losses so far and what is being asked, a line per epoch, a line per
    refresh."""

    def __init__(self, output: Output, device: torch.device) -> None:
        import torch
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        from ..device import seconds_kept_waiting

        console = Console(stderr=True)
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        hidden = output.quiet or not console.is_terminal
        self._output = output
        self._bar = Progress(*columns, console=console, disable=hidden, transient=True, redirect_stdout=False)
        self._task: Any = None
        self._state, self._best, self._next_look = "", 0.0, 0.0
        self._seconds_waited = seconds_kept_waiting
        self._threads = torch.get_num_threads() if device.type == "cpu" else 1

    def __enter__(self) -> Terminal:
        self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.stop()

    def before(self, what: str, done: int, total: int) -> None:
        """How far something is that comes before the first epoch; may be called from any thread."""
        if self._task is None:
            self._task = self._bar.add_task(what)
        self._bar.update(self._task, description=what, completed=done, total=total)

    def epoch_started(self, epoch: int, epochs: int, steps: int) -> None:
        self._began, self._waited = time.monotonic(), self._seconds_waited()
        self._epochs, self._epoch = epochs, f"epoch {epoch}/{epochs}"
        if self._best:
            self._epoch += f"  best val {self._best:.1f} %"
        if self._task is not None:
            self._bar.remove_task(self._task)
        self._task = self._bar.add_task(self._epoch + self._state, total=steps)

    def step_done(self, means: Callable[[], dict[str, float]]) -> None:
        self._bar.advance(self._task)
        if not self._bar.disable and (now := time.monotonic()) >= self._next_look:
            self._next_look = now + 0.5  # reading the losses waits for the device
            self._bar.update(self._task, description=f"{self._epoch}  {_losses(means())}{self._state}")

    def asking(self, epoch: int, classes: int) -> None:
        if not self._state:
            self._say(f"  refresh: asking about {counted(classes, 'class')} while training goes on")
        self._state = f"  asking about {counted(classes, 'class')} since epoch {epoch}"

    def epoch_done(self, metrics: dict[str, Any]) -> None:
        self._best = max(self._best, metrics.get("val_top1", 0.0))
        stage = f"{metrics['stage']} " if "stage" in metrics else ""
        self._say(
            f"{stage}epoch {metrics['epoch']:>3}/{self._epochs}  {_losses(metrics)}  {_found(metrics)}  "
            f"{metrics['seconds']:.1f} s"
        )
        share = (self._seconds_waited() - self._waited) / (time.monotonic() - self._began)
        if self._threads > 1 and share > MOST_WAITING:
            self._say(
                f"Note: for {share:.0%} of this epoch other programs had the cores that it was ready to "
                "use. Runs side by side are many times as fast with a thread each: OMP_NUM_THREADS=1 (docs/faq.md)."
            )
            self._threads = 1  # said once

    def refreshed(self, record: dict[str, Any]) -> None:
        self._state = ""
        counts = [f"{len(record['similar'])} of {record['num_classes']} classes confused", f"{record['asked']} asked"]
        counts.append(f"{record['cached']} from the store")
        if record["over_budget"]:
            counts.append(f"{len(record['over_budget'])} not asked, since the budget of --max-questions is spent")
        if record["failed"]:
            counts.append(f"{len(record['failed'])} failed and kept what they had ({record['failed'][0][1]})")
        since = f" of epoch {record['epoch']}" if record["effective"] > record["epoch"] + 1 else ""
        self._say(f"  refresh{since}: {', '.join(counts)}")

    def noted(self, text: str) -> None:
        self._say(f"Note: {text}")

    def _say(self, text: str) -> None:
        if not self._output.quiet:
            self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)
