"""`jaxseg-xai reliability fit` and `predict`: can a segmentation be trusted?"""

import csv
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import tyro

from jaxseg_xai.cli.command import EXIT_OK, Command
from jaxseg_xai.core.errors import ConfigError, DataError, JaxsegError
from jaxseg_xai.core.fields import check, setting

if TYPE_CHECKING:
    from jaxseg_xai.reliability.model_file import ReliabilityClassifier
    from jaxseg_xai.reliability.table import FeatureTable

_COLUMNS = ("image_id", "class_name", "probability", "true_dice", "status")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReliabilityFitConfig:
    """Fit P(true Dice >= threshold) to a sweep's explanations, and compare it with other measures.

    Prints AUROC and Brier score on images that were held out, of the scores of each label, of those
    of several together, and of each measure of confidence. Writes the classifier and, beside it, a
    PNG of its calibration and ROC curves.

    Attributes:
      sweeps: stores of sweeps of a labelled data set, with methods whose scores describe a whole
        predicted segment (`jaxseg-xai explainers METHOD` says so).
      threshold: a segmentation is good where its true Dice is at least this.
      out: the file to write.
      held_out: sweeps of other images to test on; where empty, images are held out in turn
        (cross-validation).
      labels: whose scores the classifier in the file uses; all such that the sweeps have where
        empty.
    """

    sweeps: tyro.conf.Positional[tuple[Path, ...]] = ()
    threshold: float = setting(0.8, above=0, at_most=1)
    out: Path = Path("runs/reliability.json")
    held_out: tuple[Path, ...] = ()
    labels: tuple[str, ...] = ()

    def check_together(self) -> None:
        """Raise `ConfigError` where no sweep is named."""
        if not self.sweeps:
            raise ConfigError("name at least one sweep: jaxseg-xai reliability fit runs/sweep.zarr")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReliabilityPredictConfig:
    """P(true Dice >= threshold) of every explanation of a sweep, those to distrust first.

    With ground truth in the sweep, also how well that tells good from bad, on images that the
    classifier was not fitted on.

    Attributes:
      classifier: the file that `reliability fit` wrote.
      sweep: store of a sweep by the same model with the same settings.
      csv: the table to write; explanations that have no features stand at its end.
    """

    classifier: tyro.conf.Positional[Path] = Path("runs/reliability.json")
    sweep: tyro.conf.Positional[Path] = Path("runs/sweep.zarr")
    csv: Path = Path("runs/reliability.csv")


def fit_text(config: ReliabilityFitConfig) -> str:
    """Fit, evaluate and write what `config` names; the text that the command prints.

    Raises:
      JaxsegError: the sweeps cannot be used, or the files cannot be written.
    """
    # Imported here: scikit-learn is optional and takes a second.
    from jaxseg_xai.reliability.classifier import check_sides, fit
    from jaxseg_xai.reliability.evaluation import compare
    from jaxseg_xai.reliability.model_file import ReliabilityClassifier
    from jaxseg_xai.reliability.report import evaluation_figure, evaluation_table, to_png

    check(config)
    notes: list[str] = []
    table = _labelled(config.sweeps, (), notes).defined()
    good = table.true_dice >= config.threshold
    check_sides(good, table.image_ids, config.threshold, _names(config.sweeps))
    held_out = None
    if config.held_out:
        held_out = _labelled(config.held_out, table.labels, notes)
        _check_held_out(table, held_out, config)
    used = tuple(config.labels or table.labels)
    if unknown := [label for label in used if label not in table.labels]:
        raise ConfigError(
            f"labels: the sweeps have no features of {', '.join(unknown)}, only of "
            f"{', '.join(table.labels)}"
        )
    evaluation = compare(table, config.threshold, held_out=held_out)
    chosen = table.of_labels(used)
    pipeline = fit(chosen.values, good, table.image_ids)
    classifier = ReliabilityClassifier.of(pipeline, chosen, config.threshold)
    classifier.save(config.out)
    where = "held-out sweeps" if config.held_out else "held-out images (cross-validation)"
    title = f"True Dice ≥ {config.threshold:g}, {where}"
    picture = config.out.with_suffix(".png")
    _write(picture, to_png(evaluation_figure(evaluation, title)))
    written = f"classifier ({' + '.join(used)}): {config.out}\ncalibration and ROC: {picture}"
    return "\n".join([*notes, title, evaluation_table(evaluation), written])


def predict_text(config: ReliabilityPredictConfig) -> str:
    """Write the table that `config` names; the text that the command prints.

    Raises:
      JaxsegError: the classifier or the sweep cannot be used, or the table cannot be written.
    """
    from jaxseg_xai.reliability.features import read_features
    from jaxseg_xai.reliability.model_file import ReliabilityClassifier

    classifier = ReliabilityClassifier.load(config.classifier)
    table = read_features(config.sweep, classifier.labels)
    _check_any(table, config.sweep)
    probability = classifier.probability(table)
    order = np.argsort(probability, kind="stable")
    try:
        config.csv.parent.mkdir(parents=True, exist_ok=True)
        with config.csv.open("w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(_COLUMNS)
            for row in order:
                dice = table.true_dice[row]
                known = f"{dice:.6f}" if np.isfinite(dice) else ""
                names = (table.image_ids[row], table.class_names[row])
                writer.writerow([*names, f"{probability[row]:.6f}", known, table.statuses[row]])
            for item in table.omitted:
                writer.writerow([item.image_id, item.class_name, "", "", item.why])
    except OSError as error:
        raise JaxsegError(f"{config.csv}: cannot be written ({error.strerror})") from error
    lines = [_omissions(table, config.sweep)] if table.omitted else []
    lines.append(
        f"{len(table)} explanations, {int(np.sum(probability < 0.5))} of them more likely bad "
        f"(true Dice < {classifier.threshold:g}) than good"
    )
    lines += _against_labels(table, probability, classifier)
    return "\n".join([*lines, f"table: {config.csv}"])


def run_fit(config: ReliabilityFitConfig, command: str) -> int:
    """Fit and print how well it does."""
    del command
    print(fit_text(config))
    return EXIT_OK


def run_predict(config: ReliabilityPredictConfig, command: str) -> int:
    """Predict and print a summary."""
    del command
    print(predict_text(config))
    return EXIT_OK


FIT = Command(
    config=ReliabilityFitConfig,
    run=run_fit,
    example="jaxseg-xai reliability fit runs/sweep.zarr --threshold 0.8 --out "
    "runs/reliability.json",
)
PREDICT = Command(
    config=ReliabilityPredictConfig,
    run=run_predict,
    example="jaxseg-xai reliability predict runs/reliability.json runs/new.zarr --csv runs/new.csv",
)


def _labelled(paths: Sequence[Path], labels: Sequence[str], notes: list[str]) -> "FeatureTable":
    """The labelled explanations of some sweeps; `notes` gets what was left out."""
    from jaxseg_xai.reliability.features import read_features
    from jaxseg_xai.reliability.table import join

    tables = [read_features(path, labels) for path in paths]
    for path, table in zip(paths, tables, strict=True):
        if table.omitted:
            notes.append(_omissions(table, path))
        _check_any(table, path)
        if not np.isfinite(table.true_dice).any():
            raise DataError(
                f"{path}: no labels of the model's classes in the store, so the true Dice is "
                "unknown; sweep labelled images with --store-labels"
            )
    return join(tables, paths).labelled()


def _check_any(table: "FeatureTable", path: Path) -> None:
    """Features there must be, or there is nothing to learn or to tell from."""
    if not len(table):
        items = [f"{item.image_id} ({item.class_name}) {item.why}" for item in table.omitted[:3]]
        more = f" and {len(table.omitted) - 3} more" if len(table.omitted) > 3 else ""
        raise DataError(
            f"{path}: no explanation has features: {', '.join(items)}{more}; let the sweep go on "
            "if they are PENDING, else sweep images in which the model segments the class"
        )


def _check_held_out(
    table: "FeatureTable", held_out: "FeatureTable", config: ReliabilityFitConfig
) -> None:
    """Held-out explanations must be comparable, of other images, and of both kinds."""
    different = table.origin.differences(held_out.origin)
    missing = [name for name in table.names if name not in held_out.names]
    if different or missing:
        why = different[0] if different else f"no feature {missing[0]}"
        raise DataError(
            f"{_names(config.held_out)}: not comparable with {_names(config.sweeps)} ({why}); "
            "sweep with the same model, methods and settings"
        )
    shared = np.intersect1d(table.image_ids, held_out.image_ids)
    if shared.size:
        raise DataError(
            f"{_names(config.held_out)}: image {shared[0]} is in {_names(config.sweeps)} too; hold "
            "out other images"
        )
    good = held_out.true_dice >= config.threshold
    if good.all() or not good.any():
        side = "at least" if good.all() else "below"
        raise DataError(
            f"{_names(config.held_out)}: every true Dice is {side} {config.threshold}, so nothing "
            "can be told apart; choose another threshold or other images"
        )


def _against_labels(
    table: "FeatureTable", probability: np.ndarray, classifier: "ReliabilityClassifier"
) -> list[str]:
    """How well the probabilities tell good from bad, on images that were not fitted on."""
    from jaxseg_xai.reliability.evaluation import auroc_interval

    labelled = np.isfinite(table.true_dice)
    known = labelled & ~classifier.has_seen(table)
    if not labelled.any():
        return []
    if not known.any():
        return ["AUROC: not defined, the classifier was fitted on all of the labelled images"]
    good = table.true_dice[known] >= classifier.threshold
    if good.all() or not good.any():
        return [f"AUROC: not defined, {int(good.sum())} of {len(good)} labelled ones are good"]
    interval = auroc_interval(good, probability[known], table.image_ids[known])
    return [f"AUROC on {len(good)} labelled explanations of unseen images: {interval}"]


def _omissions(table: "FeatureTable", path: Path) -> str:
    counts = ", ".join(f"{number} {why}" for why, number in table.counts_omitted().items())
    return f"{path}: left out {counts}"


def _names(paths: Sequence[Path]) -> str:
    return ", ".join(map(str, paths))


def _write(path: Path, content: bytes) -> None:
    try:
        path.write_bytes(content)
    except OSError as error:
        raise JaxsegError(f"{path}: cannot be written ({error.strerror})") from error
