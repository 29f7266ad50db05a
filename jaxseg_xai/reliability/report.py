"""What an evaluation found, as a table and as a picture."""

import io

import numpy as np
from sklearn.calibration import calibration_curve
from sklearn.metrics import roc_curve

from jaxseg_xai.core.errors import MissingExtraError
from jaxseg_xai.reliability.evaluation import Evaluation, Result

try:
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
except ImportError:
    raise MissingExtraError("Drawing figures", "reliability") from None

_NUM_BINS = 10
#: Okabe and Ito's palette, which colour-blind readers can tell apart.
_COLOURS = ("#e69f00", "#56b4e9", "#009e73", "#cc79a7", "#0072b2", "#d55e00", "#f0e442")


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


def evaluation_figure(evaluation: Evaluation, title: str) -> Figure:
    """Calibration and ROC curves of the classifiers that use all features of their labels."""
    shown = [r for r in evaluation.results if r.fitted and "." not in r.name]
    # The object-oriented API: drawing neither needs a display nor touches pyplot's global state.
    figure = Figure(figsize=(8.4, 4.6), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    calibration, roc = figure.subplots(1, 2)
    for number, result in enumerate(shown):
        colour = _COLOURS[number % len(_COLOURS)]
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
    figure.supxlabel(
        f"{len(evaluation.good)} explanations of {evaluation.num_images} held-out images; in "
        "brackets, 95 % intervals by bootstrap over images.",
        fontsize=9,
        color="#222222",
    )
    figure.suptitle(title, fontsize=11, parse_math=False)
    return figure


def to_png(figure: Figure) -> bytes:
    """The figure as PNG bytes."""
    buffer = io.BytesIO()
    # Without metadata: they hold a URL, and the same figure should give the same bytes.
    figure.savefig(buffer, format="png", dpi=120, metadata={"Software": None})
    return buffer.getvalue()


def _frame(axes: Axes, title: str, x_label: str, y_label: str) -> None:
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
