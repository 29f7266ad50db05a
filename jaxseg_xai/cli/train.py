"""`jaxseg-xai train`: a network of any family into a model folder."""

import dataclasses
import typing
from typing import Annotated, Any

import tyro

from jaxseg_xai.cli.command import EXIT_OK, Command, config_file, read_toml
from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.core.parse import from_table
from jaxseg_xai.models.registry import MODELS
from jaxseg_xai.training.config import TOLD_BY_DATA, TrainConfig, TrainSettings

_FLAG = "--architecture"


def parse_train(command: Command, arguments: list[str], program: str, description: str) -> Any:
    """A `TrainConfig` from flags over `--config`.

    The family's settings are flags, too, `--segformer.embed-dims 16 32`.
    """
    del command
    path, rest = config_file(arguments)
    default = TrainConfig() if path is None else read_toml(path, TrainConfig)
    name = _named(rest) or default.architecture
    flags, told = TrainSettings, {}
    if name:
        settings = _settings_of(name)
        _check_flags(name, settings, rest)
        try:
            told = {"config": from_table(settings, default.config)}
        except ConfigError as error:
            raise ConfigError(f"{path}: config of {name}: {error}") from None
        flags = dataclasses.make_dataclass(
            TrainConfig.__name__,
            [("config", Annotated[settings, tyro.conf.arg(name=name)])],
            bases=(TrainSettings,),
            frozen=True,
            kw_only=True,
        )
        flags.__doc__ = TrainSettings.__doc__
    names = [field.name for field in dataclasses.fields(TrainSettings)]
    given: Any = tyro.cli(
        flags,
        args=rest,
        default=flags(**{name: getattr(default, name) for name in names}, **told),
        prog=program,
        description=f"{description}\n\n--ARCHITECTURE.SETTING VALUE sets something of the network; "
        f"`{program} {_FLAG} NAME --help` lists its settings. A TOML file has them in [config].",
    )
    config = dataclasses.asdict(given.config) if name else {}
    return TrainConfig(**{name: getattr(given, name) for name in names}, config=config)


def _named(arguments: list[str]) -> str:
    """What `--architecture` says, "" where it is not there."""
    for place, word in enumerate(arguments):
        flag, equals, value = word.partition("=")
        if flag == _FLAG:
            return value if equals else "".join(arguments[place + 1 : place + 2])
    return ""


def _check_flags(name: str, settings: type, arguments: list[str]) -> None:
    """Raise `ConfigError` for a flag of another family, or of a setting that this one has not."""
    known = [field.name for field in dataclasses.fields(settings)]
    for word in arguments:
        family, dot, setting = word.partition("=")[0][2:].replace("-", "_").partition(".")
        if not (word.startswith("--") and dot and family in MODELS):
            continue
        if family != name:
            raise ConfigError(f"{word} sets something of {family}; the architecture is {name}")
        if setting.removeprefix("no_") not in known:
            told = "; the data say it" if setting in TOLD_BY_DATA else ""
            raise ConfigError(f"{word}: {name} has {', '.join(known) or 'no settings'}{told}")


def _settings_of(name: str) -> type:
    """The settings of a family without those that the data say, as a dataclass."""
    family = MODELS.get(name)
    hints = typing.get_type_hints(family)
    settings = dataclasses.make_dataclass(
        family.__name__,
        [
            (f.name, hints[f.name], dataclasses.field(default=f.default, metadata=f.metadata))
            for f in dataclasses.fields(family)
            if f.name not in TOLD_BY_DATA
        ],
        frozen=True,
        kw_only=True,
    )
    settings.__doc__ = family.__doc__
    return settings


def run(config: TrainConfig, command: str) -> int:
    """Train and print the Dice on held-out images."""
    from jaxseg_xai.training.loop import train  # Orbax takes a second to import

    dices = train(config, command)
    print("held-out Dice: " + ", ".join(f"{name} {dice:.4f}" for name, dice in dices.items()))
    print(f"model: {config.out}")
    return EXIT_OK


COMMAND = Command(
    config=TrainConfig,
    run=run,
    parse=parse_train,
    example="jaxseg-xai train --architecture unet --data triangle --steps 2500 --out runs/triangle",
)
