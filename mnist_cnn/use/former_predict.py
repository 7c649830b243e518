"""``predict --data.predict_path PICTURES``, as the last release had it, in today's form."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import yaml

from mnist_cnn import config_files
from mnist_cnn.errors import OptionParser

PICTURES = "--data.predict_path"
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
        UserError: If a configuration that they name cannot be read.
    """
    parser = OptionParser(prog="mnist-cnn predict", add_help=False)
    for option in (PICTURES, *OPTIONS):
        parser.add_argument(option)
    flags, rest = parser.parse_known_args(arguments)
    if any(argument.startswith(OTHERS) for argument in rest):
        return None
    given: dict[str, Any] = {}
    for file in config_files.named(arguments):
        of_file = config_files.flags(config_files.read(file))
        given |= {f"--{key}": value for key, value in of_file.items()}
    given |= {f"--{key}": value for key, value in vars(flags).items() if value is not None}
    if given.get(PICTURES) is None:
        return None
    unknown = [a for a in rest if a.startswith("-") and not a.startswith(GONE)]
    now = [*_pictures(given[PICTURES]), *unknown]  # which today's command refuses
    for option, today in OPTIONS.items():
        if given.get(option) not in (None, "null"):
            now += [today, str(given[option])]
    return now


def _pictures(value: Any) -> list[str]:
    """What a path, or a list as YAML writes it, names."""
    if isinstance(value, str):
        with contextlib.suppress(yaml.YAMLError):
            loaded = yaml.safe_load(value)
            value = loaded if isinstance(loaded, list) else value
    return [str(path) for path in value] if isinstance(value, list) else [str(value)]
