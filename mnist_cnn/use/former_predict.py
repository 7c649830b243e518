"""``predict --data.predict_path PICTURES``, as the last release had it, in today's form."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from mnist_cnn.errors import OptionParser
from mnist_cnn.file_system.paths import user_path
from mnist_cnn.importing import importing
from mnist_cnn.settings import config_files

PICTURES = "--data.predict_path"
SAVE_DIR = "--trainer.logger.init_args.save_dir"
#: The options of then that pictures still have, and what they are called now.
OPTIONS = {
    "--ckpt_path": "--ckpt_path",
    "--predictions.path": "--out",
    "--model.test_shifts": "--test_shifts",
    "--trainer.accelerator": "--accelerator",
}
OPTIONS |= {today: today for today in OPTIONS.values()}
#: How the options begin that pictures no longer have.
GONE = (
    *("--trainer", "--data", "--model", "--best_checkpoint", "--last_checkpoint", "--tensorboard"),
    *("-c", "--config", "--seed_everything", "--return_predictions", "--weights_only"),
)
#: What asks for something else than predictions.
OTHERS = ("-h", "--help", "--print_config")


def todays(arguments: Sequence[str]) -> list[str] | None:
    """The arguments of today's ``predict`` that say what these did in the last release.

    Settings of the trainer and of the data, which pictures no longer have, are left out.

    Returns:
        The arguments; None if these name no pictures in the former way.

    Raises:
        UserError: If a configuration that they name cannot be read, or there is no run whose
            checkpoint they mean.
    """
    given, rest = _given(arguments)
    if given.get(PICTURES) is None:
        return None
    if checkpoint := given.get("--ckpt_path"):
        with importing():
            from mnist_cnn.checkpoints.run_folder import find_newest
        given["--ckpt_path"] = find_newest(str(checkpoint), _logs(given))
    unknown = [a for a in rest if a.startswith("-") and not a.startswith(GONE)]
    now = [*_pictures(given[PICTURES]), *unknown]  # which today's command refuses
    for option, today in OPTIONS.items():
        if given.get(option) not in (None, "null"):
            now += [today, str(given[option])]
    return now


def names_pictures(arguments: Sequence[str]) -> bool:
    """Whether arguments name pictures in the former way.

    Raises:
        UserError: If a configuration that they name cannot be read.
    """
    return _given(arguments)[0].get(PICTURES) is not None


def _given(arguments: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """What configurations and options say, by flag, and the other arguments."""
    parser = OptionParser(prog="mnist-cnn predict", add_help=False)
    for option in (PICTURES, SAVE_DIR, *OPTIONS):
        parser.add_argument(option)
    flags, rest = parser.parse_known_args(arguments)
    if any(argument.startswith(OTHERS) for argument in rest):
        return {}, rest
    given: dict[str, Any] = {}
    for file in config_files.named(arguments):
        of_file = config_files.flags(config_files.read(file))
        given |= {f"--{key}": value for key, value in of_file.items()}
    return given | {
        f"--{key}": value for key, value in vars(flags).items() if value is not None
    }, rest


def _logs(given: dict[str, Any]) -> Path:
    """Where the runs are that ``last`` and ``best`` mean, of one name if a configuration has it."""
    by_default = config_files.defaults()["trainer.logger"]["init_args"]["save_dir"]
    logger = given.get("--trainer.logger")
    settings = logger.get("init_args", {}) if isinstance(logger, dict) else {}
    folder = given.get(SAVE_DIR) or settings.get("save_dir") or by_default
    return Path(user_path(folder), settings.get("name") or "")


def _pictures(value: Any) -> list[str]:
    """What a path, or a list as YAML writes it, names."""
    if isinstance(value, str):
        with contextlib.suppress(yaml.YAMLError):
            loaded = yaml.safe_load(value)
            value = loaded if isinstance(loaded, list) else value
    return [str(path) for path in value] if isinstance(value, list) else [str(value)]
