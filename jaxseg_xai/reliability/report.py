"""What an evaluation found, as a table and as a picture."""

from typing import TYPE_CHECKING

import numpy as np
from sklearn.calibration import calibration_curve
from sklearn.metrics import roc_curve

from jaxseg_xai.reliability.evaluation import Evaluation, Result
from jaxseg_xai.report import overlays, panels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_NUM_BINS = 10


def evaluation_table(evaluation: Evaluation) -> str:
    """Text: a line per result."""
    lines = [("score or features", "used as", "AUROC [95 % CI]", "Brier", "gain on the first")]
    for number, result in enumerate(evaluation.results):
        used = "classifier" if result.fitted else "score"
        brier = f"{result.brier:.3f}" if result.fitted else "–"
        gain = _signed(result) if number else "–"
        lines.append((result.name, used, str(result.auroc), brier, gain))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rows = [
        "  ".join(cell.ljust(n) for cell, n in zip(line, widths, strict=True)) for line in lines
    ]
    share = evaluation.good.mean()
    rows.append(
        f"{len(evaluation.good)} explanations of {evaluation.num_images} images, {share:.0%} of "
        f"them good; always saying {share:.2f} has a Brier score of {share * (1 - share):.3f}"
    )
    return "\n".join(row.rstrip() for row in rows)


def evaluation_figure(evaluation: Evaluation, title: str) -> "Figure":
    """Calibration and ROC curves of the classifiers that use whole explainers."""
    shown = [r for r in evaluation.results if r.fitted and "." not in r.name]
    figure, axes = panels.new_figure(1, 2, (1, 1), text_height=0.9)
    figure.set_size_inches(8.4, 4.6)
    calibration, roc = axes[0]
    for number, result in enumerate(shown, start=1):
        colour = overlays.class_colour(number) / 255
        bins = min(_NUM_BINS, len(np.unique(result.score)))
        observed, predicted = calibration_curve(
            evaluation.good, result.score, n_bins=bins, strategy="quantile"
        )
        label = f"{result.name}, Brier {result.brier:.3f}"
        calibration.plot(predicted, observed, "o-", ms=4, color=colour, label=label)
        false, true, _ = roc_curve(evaluation.good, result.score)
        roc.plot(false, true, color=colour, label=f"{result.name}, {result.auroc}")
    _frame(calibration, "Calibration", "predicted P(good)", "share that is good")
    _frame(roc, "ROC", "bad ones let through", "good ones let through")
    # Where the curves are not, if the classifiers are any good.
    for axes, place in ((calibration, "upper left"), (roc, "lower right")):
        axes.legend(fontsize=7, framealpha=0.8, edgecolor="none", loc=place)
    panels.caption(
        figure,
        f"{len(evaluation.good)} explanations of {evaluation.num_images} held-out images; in "
        "brackets, 95 % intervals by bootstrap over images.",
    )
    figure.suptitle(title, fontsize=11, parse_math=False)
    return figure


def _frame(axes: "Axes", title: str, x_label: str, y_label: str) -> None:
    axes.plot([0, 1], [0, 1], color="#8a8a8a", lw=0.8, ls="dashed")
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    axes.set_title(title, fontsize=9.5)
    axes.set_xlabel(x_label, fontsize=8)
    axes.set_ylabel(y_label, fontsize=8)
    axes.tick_params(labelsize=7.5)
    axes.spines[["top", "right"]].set_visible(False)


def _signed(result: Result) -> str:
    gain = result.gain
    return f"{gain.value:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]"
