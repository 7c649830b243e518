"""The best checkpoint of a run: which metric decides, what the files are called, where they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from mnist_cnn.checkpoints.files import link
from mnist_cnn.errors import UserError

#: Which value of a metric is the best, by a part of the metric's name; the first that fits.
BEST = {"loss": "min", "error": "min", "acc": "max", "f1": "max", "auroc": "max"}


class BestCheckpoint(ModelCheckpoint):
    """Lightning's ``ModelCheckpoint``, with a direction that follows from the metric.

    If more than one checkpoint is kept, each has its epoch and step in its name, such as
    ``best-epoch=07-step=3752.ckpt``, and ``best.ckpt`` is the best of them.

    Args:
        filename: Without suffix; ``{epoch}``, ``{step}`` and ``{name of a metric}`` are filled in.
        monitor: The metric that decides.
        mode: ``min`` if its lowest value is the best, ``max`` if its highest is; ``auto``: the
            lowest loss or error, the highest accuracy.
        save_top_k: How many are kept; -1 keeps all, 0 none.

    Raises:
        UserError: If `mode` contradicts `monitor`, or does not follow from it.
    """

    def __init__(
        self,
        filename: str | None = "best",
        monitor: str | None = "val/accuracy",
        mode: Literal["auto", "min", "max"] = "auto",
        save_top_k: int = 1,
        **kwargs: Any,
    ) -> None:
        if filename in ("last", "previous"):
            raise UserError(f"--best_checkpoint.filename {filename}: a run has that file anyhow")
        self.alias: str | None = None  # the name of the best where several are kept
        if filename and "{" not in filename and save_top_k not in (0, 1):
            self.alias = f"{filename}{self.FILE_EXTENSION}"
            filename += "-{epoch:02d}-{step}"
        super().__init__(
            filename=filename,
            monitor=monitor,
            mode=direction(monitor, mode),
            save_top_k=save_top_k,
            **kwargs,
        )
        self.aliased = ""  # the file that has the alias as well
        self.goes_on = False  # with the run in whose folder it writes
        self.is_writer = True

    def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
        super().on_train_batch_end(trainer, *args)
        self._name_the_best(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_epoch_end(trainer, pl_module)
        self._name_the_best(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_validation_end(trainer, pl_module)
        self._name_the_best(trainer)

    def _name_the_best(self, trainer: Trainer) -> None:
        best = self.best_model_path
        if self.alias and best != self.aliased and trainer.is_global_zero:
            link(Path(best), Path(best).with_name(self.alias))
            self.aliased = best

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        resumed = Path(trainer.ckpt_path or "").parent
        self.goes_on = resumed.resolve() == Path(self.dirpath or "").resolve()
        self.is_writer = trainer.is_global_zero
        states = checkpoint.get("callbacks", {})
        former = self.state_key.replace(type(self).__qualname__, ModelCheckpoint.__qualname__)
        if former in states:  # written before this class was
            states.setdefault(self.state_key, states[former])

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if self.goes_on or state_dict.get("dirpath") == self.dirpath:
            state_dict = state_dict | self._as_it_is_now(state_dict)
        super().load_state_dict(state_dict)

    def _as_it_is_now(self, state: dict[str, Any]) -> dict[str, Any]:
        """What has changed of a run's state where its folder was moved, or another number is kept.

        Files that are not among those to keep any more stay where they are.
        """

        def here(path: str) -> str:
            return str(Path(self.dirpath or "", Path(path).name)) if path else ""

        scores = {here(path): score for path, score in state["best_k_models"].items()}
        only = here(self.alias or "")
        if only in scores:  # one was kept so far, under the name that is to be the best one's
            earlier = only.removesuffix(self.FILE_EXTENSION) + "-earlier" + self.FILE_EXTENSION
            if self.is_writer and Path(only).exists():
                link(Path(only), Path(earlier))
            scores[earlier] = scores.pop(only)
        order = sorted(scores, key=lambda path: float(scores[path]), reverse=self.mode == "max")
        kept = order if self.save_top_k == -1 else order[: self.save_top_k]
        full = len(kept) == self.save_top_k and kept
        return {
            "dirpath": self.dirpath,
            "best_k_models": {path: scores[path] for path in scores if path in kept},
            "best_model_path": kept[0] if kept else here(state["best_model_path"]),
            "kth_best_model_path": kept[-1] if full else "",
            "kth_value": scores[kept[-1]] if full else self.kth_value,
            "last_model_path": here(state.get("last_model_path", "")),
        }


def direction(monitor: str | None, mode: str) -> str:
    """Whether the lowest (``min``) or the highest value (``max``) of a metric is its best.

    Raises:
        UserError: If `mode` contradicts the metric's name, or is ``auto`` and nothing says.
    """
    known = next((BEST[part] for part in BEST if part in (monitor or "").lower()), None)
    if mode == "auto" and known is None and monitor is not None:
        raise UserError(
            f"--best_checkpoint.monitor {monitor}: is its lowest value the best, or its highest? "
            "Add --best_checkpoint.mode min, or max"
        )
    if known and mode not in ("auto", known):
        raise UserError(
            f"--best_checkpoint.mode {mode}: would keep the worst {monitor}; leave it out, or give "
            f"{known}"
        )
    return known or ("min" if mode == "auto" else mode)
