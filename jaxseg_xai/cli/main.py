"""The command line: `jaxseg-xai COMMAND`, settings from a TOML file, flags, or both."""

import contextlib
import dataclasses
import os
import shlex
import shutil
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import tyro

from jaxseg_xai.cli import demo
from jaxseg_xai.cli.components import ComponentsConfig, run_components
from jaxseg_xai.cli.plan import PlanConfig, plan_text
from jaxseg_xai.cli.reliability import (
    ReliabilityFitConfig,
    ReliabilityPredictConfig,
    fit_text,
    predict_text,
)
from jaxseg_xai.core.errors import ConfigError, JaxsegError
from jaxseg_xai.core.types import Status
from jaxseg_xai.devices.mesh import use_cpu_cores
from jaxseg_xai.explainers import EXPLAINERS
from jaxseg_xai.models.bundle import bundled_models, read_card
from jaxseg_xai.store.store import ExplanationStore
from jaxseg_xai.sweep.config import SweepConfig, read_toml
from jaxseg_xai.sweep.run import SweepResult, run_sweep
from jaxseg_xai.training.config import TrainConfig

EXIT_OK, EXIT_SOME_FAILED, EXIT_BAD_INPUT, EXIT_BUG, EXIT_INTERRUPTED = 0, 1, 2, 70, 130
_MAX_REASONS = 10


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExplainConfig(SweepConfig):
    """A few images, one model, one or more explainers: PNG figures (and a small store).

    Attributes:
      out: folder to write: `figures/` and the store `explanations.zarr`.
    """

    out: Path = Path("runs/explain")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReportConfig:
    """One self-contained HTML page from a store.

    Attributes:
      store: made by `sweep` or `explain`.
      out: the page to write; beside the store where empty.
      max_items: show at most so many figures, evenly spaced.
    """

    store: Path = Path("runs/sweep.zarr")
    out: Path | None = None
    max_items: int = 200


@dataclasses.dataclass(frozen=True)
class _Command:
    config: type
    run: Callable[..., int]
    summary: str
    example: str


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code.

    0: done. 1: done, but some images failed (the store says which and why). 2: bad input, in one
    line on standard error. 70: a bug, with a traceback. 130: interrupted; the same command
    continues.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_help())
        return EXIT_OK if arguments else EXIT_BAD_INPUT
    # A command is one word or two.
    words = 2 if " ".join(arguments[:2]) in COMMANDS else 1
    name, rest = " ".join(arguments[:words]), arguments[words:]
    try:
        if name in (*_LISTINGS, *_GROUPS) and rest in (["-h"], ["--help"]):
            print(_help())
            return EXIT_OK
        if name in _LISTINGS:
            if rest:
                raise ConfigError(f"{name} takes no arguments, not {' '.join(rest)}")
            _LISTINGS[name]()
            return EXIT_OK
        if name not in COMMANDS:
            known = ", ".join([*COMMANDS, *_LISTINGS])
            raise ConfigError(f"unknown command {name!r}; there is {known}")
        command = COMMANDS[name]
        config = _parse(name, command, rest)
        with contextlib.suppress(RuntimeError):  # JAX already runs where Python code calls `main`
            use_cpu_cores()
        _keep_compiled_programs()
        return command.run(config, shlex.join(["jaxseg-xai", *arguments]))
    except JaxsegError as error:
        print(f"jaxseg-xai: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(
            f"jaxseg-xai: {where}{error.strerror or error}; check the path, its permissions and "
            "the free space",
            file=sys.stderr,
        )
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        print("jaxseg-xai: interrupted; the same command continues", file=sys.stderr)
        return EXIT_INTERRUPTED
    except Exception as error:
        if isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" in str(error):
            remedy = (
                "lower batch_size, misure.lanes, ate.batch_size or components.batch_size; "
                "an interrupted sweep is continued by the same command"
            )
            print(f"jaxseg-xai: out of memory; {remedy}", file=sys.stderr)
            return EXIT_BAD_INPUT
        traceback.print_exc()
        print("jaxseg-xai: this is a bug; please report it", file=sys.stderr)
        return EXIT_BUG  # not 1, which scripts take for "done, some failed"


def _parse(name: str, command: _Command, arguments: list[str]) -> Any:
    """Flags over the TOML file of `--config`, over the defaults."""
    default, arguments = _config_file(arguments, command.config)
    return tyro.cli(
        command.config,
        args=arguments,
        default=default,
        prog=f"jaxseg-xai {name}",
        description=f"{(command.config.__doc__ or '').split('Attributes:')[0].strip()}\n\n"
        f"--config FILE.toml sets the same names, flags come on top.\n\nExample: {command.example}",
    )


def _config_file(arguments: list[str], cls: type) -> tuple[Any, list[str]]:
    rest = list(arguments)
    for place, argument in enumerate(rest):
        if argument == "--config" or argument.startswith("--config="):
            value = argument.partition("=")[2] if "=" in argument else None
            if value is None and place + 1 == len(rest):
                raise ConfigError("--config needs the path of a TOML file")
            path = Path(rest[place + 1] if value is None else value)
            del rest[place : place + (2 if value is None else 1)]
            return read_toml(path, cls), rest
    return cls(), rest


def _keep_compiled_programs() -> None:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "jaxseg_xai" / "xla"
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        jax.config.update("jax_compilation_cache_dir", str(cache))


def _demo(config: demo.DemoConfig, _: str) -> int:
    return _exit_code(demo.run_demo(config))


def _train(config: TrainConfig, command: str) -> int:
    from jaxseg_xai.training.loop import train  # Orbax takes a second to import

    dices = train(config, command)
    print("held-out Dice: " + ", ".join(f"{name} {dice:.4f}" for name, dice in dices.items()))
    print(f"model: {config.out}")
    return EXIT_OK


def _sweep(config: SweepConfig, _: str) -> int:
    result = run_sweep(config)
    print(describe(result))
    _print_reasons(result)
    print(f"store: {config.out}")
    return _exit_code(result)


def _explain(config: ExplainConfig, _: str) -> int:
    from jaxseg_xai.report.files import save_figures

    store, figures = config.out / "explanations.zarr", config.out / "figures"
    result = run_sweep(dataclasses.replace(config, out=store))
    if config.overwrite:
        shutil.rmtree(figures, ignore_errors=True)
    print(describe(result))
    _print_reasons(result)
    for path in save_figures(ExplanationStore.open(store), figures):
        print(path)
    return _exit_code(result)


def _report(config: ReportConfig, _: str) -> int:
    from jaxseg_xai.report.gallery import write_report

    if config.max_items < 0:
        raise ConfigError(f"max_items is {config.max_items}; it must not be negative")
    store = ExplanationStore.open(config.store)
    place = config.store.resolve()
    out = config.out or place.with_name(place.name.removesuffix(".zarr") + ".html")
    print(write_report(store, out, max_items=config.max_items))
    return EXIT_OK


def _components(config: ComponentsConfig, _: str) -> int:
    for name, table in run_components(config).items():
        print(f"{name}: {int((table.statuses == Status.OK).sum())} of {len(table.statuses)} images")
    print(f"table and pictures: {config.out}")
    return EXIT_OK


def _prints(text: Callable[[Any], str]) -> Callable[..., int]:
    def run(config: Any, _: str) -> int:
        print(text(config))
        return EXIT_OK

    return run


def describe(result: SweepResult) -> str:
    """Counts by status and speeds of a sweep, a line per explainer."""
    lines = []
    for name, counts in result.counts.items():
        line = f"{name}: " + ", ".join(f"{n} {status}" for status, n in counts.items())
        if result.computed[name]:
            seconds = result.compute_seconds[name]
            line += f"; {result.computed[name]} computed in {seconds:.1f} s"
            line += f" ({result.computed[name] / seconds:.2f}/s)"
        lines.append(line)
    lines.append(f"compiling took {result.compile_seconds:.1f} s")
    return "\n".join(lines)


def _print_reasons(result: SweepResult) -> None:
    for reason in result.reasons[:_MAX_REASONS]:
        print(f"failed: {reason}", file=sys.stderr)
    more = len(result.reasons) - _MAX_REASONS
    if more > 0:
        print(f"failed: {more} more; the store and its report have them all", file=sys.stderr)


def _exit_code(result: SweepResult) -> int:
    return EXIT_SOME_FAILED if result.num_failed else EXIT_OK


def _list_models() -> None:
    for name, folder in bundled_models().items():
        card = read_card(folder)
        dice = card.about.get("dice", {}).get("mean")
        print(f"{name:14} {card.architecture}, classes {', '.join(card.class_names)}")
        print(f"{'':14} trained on {card.about.get('data')}, held-out Dice {dice}")


def _list_explainers() -> None:
    for name, cls in EXPLAINERS.items():
        print(f"{name:20} {(cls.__doc__ or '').splitlines()[0]}")


COMMANDS = {
    "demo": _Command(
        demo.DemoConfig,
        _demo,
        "explain real brain MRI slices and write a report",
        "jaxseg-xai demo",
    ),
    "explain": _Command(
        ExplainConfig,
        _explain,
        "a few images: figures as PNG",
        "jaxseg-xai explain --model brain --data.source brain --data.limit 2 --explainers misure",
    ),
    "sweep": _Command(
        SweepConfig,
        _sweep,
        "a data set x classes x explainers: a store",
        "jaxseg-xai sweep --config sweep.toml --data.limit 100 --out runs/sweep.zarr",
    ),
    "report": _Command(
        ReportConfig,
        _report,
        "a store: one HTML page",
        "jaxseg-xai report --store runs/sweep.zarr --out report.html",
    ),
    "reliability fit": _Command(
        ReliabilityFitConfig,
        _prints(fit_text),
        "from explanations: can a segmentation be trusted? A classifier and how good it is",
        "jaxseg-xai reliability fit runs/sweep.zarr --threshold 0.8 --out runs/reliability.json",
    ),
    "reliability predict": _Command(
        ReliabilityPredictConfig,
        _prints(predict_text),
        "which segmentations of a sweep to distrust: a CSV",
        "jaxseg-xai reliability predict runs/reliability.json runs/new.zarr --csv runs/new.csv",
    ),
    "components": _Command(
        ComponentsConfig,
        _components,
        "which channels, layers and skip connections carry a class: a CSV and a PNG",
        "jaxseg-xai components --model brain --data.limit 2 --classes 'white matter'",
    ),
    "plan": _Command(
        PlanConfig,
        _prints(plan_text),
        "what an intervention on a model costs, layer by layer",
        "jaxseg-xai plan --model brain --height 192 --width 192 --block-size 8 --region-side 32",
    ),
    "train": _Command(
        TrainConfig,
        _train,
        "train a U-Net: a model folder",
        "jaxseg-xai train --data triangle --steps 2500 --out runs/triangle",
    ),
}
_LISTINGS = {"models": _list_models, "explainers": _list_explainers}
_GROUPS = {name.split()[0] for name in COMMANDS if " " in name}


def _help() -> str:
    lines = ["jaxseg-xai COMMAND [options]: explain segmentation models at scale.", ""]
    lines += [f"  {name:19} {command.summary}" for name, command in COMMANDS.items()]
    listings = {"models": "the bundled models", "explainers": "the explanation methods"}
    lines += [f"  {name:19} {summary}" for name, summary in listings.items()] + [""]
    lines += ["jaxseg-xai COMMAND --help tells a command's options. Examples:", ""]
    lines += [f"  {command.example}" for command in COMMANDS.values()]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
