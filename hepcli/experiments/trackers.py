"""TensorBoard and Weights & Biases beside metrics.jsonl, which stays the truth.

A tracker is given the lines of metrics.jsonl, flat: `train.loss` is called `train/loss` there, so that both
group it. To add one: a class here, its line in `settings/parts.py`, its package among the extras.
"""

import importlib.util
import math
import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from hepcli.config import Config, flatten
from hepcli.errors import ConfigError, HepError, OutputError
from hepcli.experiments.run_folder import RunFolder
from hepcli.settings import TRACKERS, assigned

_WANDB_ID = "wandb.id"
_WANDB_SECONDS = 30.0


class Tracker(Protocol):
    """Something that follows a run."""

    def log(self, line: Mapping[str, Any]) -> None:
        """Take a line of metrics.jsonl."""

    def figure(self, file: Path) -> None:
        """Take a figure, a PNG named after what it shows."""

    def close(self, *, finished: bool) -> None:
        """Write all that is left; `finished` unless the run failed."""


def scalars(line: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a line of metrics.jsonl by the names that trackers know; what is null is left out."""
    return {
        key.replace(".", "/"): value
        for key, value in flatten(line).items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


def check_installed(config: Config) -> None:
    """Check that the packages of a run's trackers are there, before anything is begun.

    Raises:
        ConfigError: one is not.
    """
    for name in config.run.trackers:
        package = _PACKAGES.get(name)  # none of a user's own tracker
        if package is not None and importlib.util.find_spec(package) is None:
            raise ConfigError(
                f"{assigned('run.trackers', list(config.run.trackers))}: {package} is not installed.",
                f"Run: python -m pip install 'hepcli[{name}]'   or leave {name} out.",
            )


class Trackers:
    """The trackers of one run.

    One that fails while the run goes on is given up: that harms neither the run nor the others.

    Args:
        config: of the run.
        folder: of the run.
        history: lines of metrics.jsonl that there are.

    Raises:
        HepError: a tracker cannot be begun.
    """

    def __init__(self, config: Config, folder: RunFolder, history: Sequence[Mapping[str, Any]]) -> None:
        self._news: list[str] = []
        self._open: dict[str, Tracker] = {}
        if folder.writes:
            for name in dict.fromkeys(config.run.trackers):
                if name not in TRACKERS:  # of a resumed run, trained in a program that had registered it
                    self._news.append(f"There is no tracker {name} here; it no longer logs this run.")
                    continue
                self._open[name] = TRACKERS[name](config, folder, history, self._news)

    def log(self, line: Mapping[str, Any]) -> None:
        """Hand on a line of metrics.jsonl."""
        self._each(lambda tracker: tracker.log(line))

    def figure(self, file: Path) -> None:
        """Hand on a figure, where it was drawn, and as PNG: trackers take no vectors."""
        if file.suffix == ".png" and file.is_file():
            self._each(lambda tracker: tracker.figure(file))

    def news(self) -> list[str]:
        """What the user should know since this was last asked."""
        result, self._news[:] = list(self._news), []
        return result

    def close(self, *, finished: bool) -> None:
        """Let all of them write what is left; twice does no harm."""
        self._each(lambda tracker: tracker.close(finished=finished))
        self._open.clear()

    def _each(self, act: Callable[[Tracker], None]) -> None:
        for name, tracker in list(self._open.items()):
            try:
                act(tracker)
            except HepError:
                raise
            except Exception as error:  # noqa: BLE001 - whatever these libraries, disks and networks raise
                del self._open[name]
                reason = f"{type(error).__name__}: {error}"
                self._news.append(
                    f"{name} has stopped logging this run ({reason}); metrics.jsonl is still written."
                )


class _TensorBoard:
    """Event files in the run's tensorboard/ folder.

    After a resume the series is written anew up to there, behind a mark that has readers forget what came
    before: whatever was lost or written twice when a process was killed, it ends up whole.
    """

    def __init__(
        self, config: Config, folder: RunFolder, history: Sequence[Mapping[str, Any]], notices: list[str]
    ) -> None:
        from tensorboardX import SummaryWriter

        where = folder.path / "tensorboard"
        with folder.writing():
            where.mkdir(exist_ok=True)
            # Step 1: readers keep what is before, and no epoch ends there.
            mark = 1 if any(where.iterdir()) else None
            self._writer = SummaryWriter(str(where), purge_step=mark)
            text = "".join(f"    {line}\n" for line in _toml_lines(folder))  # indented: Markdown's plain text
            self._writer.add_text("config", text, global_step=1)
        for line in history:
            self.log(line)

    def log(self, line: Mapping[str, Any]) -> None:
        for name, value in scalars(line).items():
            self._writer.add_scalar(name, value, line["step"])
        self._step = line["step"]
        self._writer.flush()

    def figure(self, file: Path) -> None:
        from matplotlib.image import imread

        self._writer.add_image(file.stem, imread(file)[..., :3], self._step, dataformats="HWC")

    def close(self, *, finished: bool) -> None:
        self._writer.close()


class _WandB:
    """A run of Weights & Biases; the id in the run folder makes a resumed run go on in the same series.

    WANDB_PROJECT, WANDB_MODE and the like are heeded; without an API key it is kept offline.
    """

    def __init__(
        self, config: Config, folder: RunFolder, history: Sequence[Mapping[str, Any]], notices: list[str]
    ) -> None:
        import wandb

        file = folder.path / _WANDB_ID
        is_new = not file.is_file()
        name = secrets.token_hex(4) if is_new else file.read_text(encoding="ascii").strip()
        mode = os.environ.get("WANDB_MODE")
        if mode is None and not _has_wandb_key():
            mode = "offline"
            notices.append(
                "No W&B API key found; this run is logged offline. To upload it later: wandb "
                f"login, then wandb sync {folder.path / 'wandb'}/offline-run-*"
            )
        try:
            self._run = wandb.init(
                project=os.environ.get("WANDB_PROJECT", "hep"),
                dir=str(folder.path),
                id=name,
                name=folder.path.resolve().name,
                resume="allow",
                reinit="create_new",  # runs that train together have one each
                config=config.model_dump(mode="json"),
                mode=mode,
                settings=wandb.Settings(
                    silent=True, console="off", init_timeout=_WANDB_SECONDS, disable_git=True
                ),
            )
        except (wandb.errors.Error, OSError, ValueError) as error:
            reason = str(error).partition("\n")[0].rstrip(".")
            raise OutputError(
                f"W&B cannot be reached: {reason}.",
                "Set WANDB_MODE=offline to upload later, or leave wandb out of run.trackers.",
            ) from error
        if is_new:  # only now: without an id in the folder the next attempt logs every epoch
            with folder.writing():
                folder.write_text(_WANDB_ID, name)
        there = 0 if is_new else math.inf if mode == "offline" else self._run.step
        for line in history:
            if line["step"] >= there:
                self.log(line)

    def log(self, line: Mapping[str, Any]) -> None:
        self._run.log(scalars(line), step=line["step"])

    def figure(self, file: Path) -> None:
        import wandb

        self._run.log({file.stem: wandb.Image(str(file))})

    def close(self, *, finished: bool) -> None:
        self._run.finish(exit_code=0 if finished else 1)


def _has_wandb_key() -> bool:
    """Whether W&B knows who the user is, by its variable or by what `wandb login` left."""
    import netrc

    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        hosts = netrc.netrc(os.environ.get("NETRC")).hosts
    except (OSError, netrc.NetrcParseError):
        return False
    return any("wandb" in host for host in hosts)


def _toml_lines(folder: RunFolder) -> list[str]:
    file = folder.path / "config.toml"
    return file.read_text(encoding="utf-8").splitlines() if file.is_file() else []


_PACKAGES = {"tensorboard": "tensorboardX", "wandb": "wandb"}
