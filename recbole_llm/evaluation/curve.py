"""The learning curve of a run as a picture."""

import io
from itertools import pairwise

import numpy as np

from .outcomes import capital, model_of, validated, validation_of

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")  # told apart by the colour-blind (Okabe and Ito)


def learning_curve(outcomes):
    """A PNG of 1280 x 800 pixels: the validation metric and the training loss of every outcome by epoch."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    metric = outcomes[0].settings["valid_metric"]
    curves = {metric.lower(): validation_of(outcomes[0]), "loss": "Training loss"}
    if not any(map(validated, outcomes)):
        del curves[metric.lower()]
    figure = Figure(figsize=(8, 5), dpi=160)
    FigureCanvasAgg(figure)
    panels = figure.subplots(
        len(curves), 1, sharex=True, squeeze=False, height_ratios=[1.6, 1][-len(curves) :]
    )[:, 0]
    figure.subplots_adjust(left=0.08, right=0.76, top=0.93, bottom=0.1, hspace=0.28)
    for panel, (key, title) in zip(panels, curves.items(), strict=True):
        panel.set_title(capital(title), loc="left", fontsize=11, fontweight="bold", color="#222222")
        panel.spines[["top", "right"]].set_visible(False)
        panel.spines[["left", "bottom"]].set_color("#888888")
        panel.tick_params(colors="#444444", labelsize=9)
        panel.grid(axis="y", color="#E4E4E4", linewidth=0.8)
        panel.set_axisbelow(True)
        _draw(panel, outcomes, key, best=key != "loss")
    panels[-1].set_xlabel("epoch", fontsize=10, color="#444444")
    panels[-1].xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    content = io.BytesIO()
    figure.savefig(content, format="png")
    return content.getvalue()


def _draw(panel, outcomes, key, best):
    """One line an outcome, named at the side; the kept epoch, where there was a choice, is ringed."""
    models = list(dict.fromkeys(map(model_of, outcomes)))
    ends = []
    for outcome in outcomes:
        points = [(entry["epoch"], entry[key]) for entry in outcome.curve if key in entry]
        if not points:
            continue
        is_refit = outcome is not outcomes[0] and model_of(outcome) == models[0]
        colour, label = (
            COLOURS[models.index(model_of(outcome)) % len(COLOURS)],
            "its refit" if is_refit else outcome.name,
        )
        dots = (
            {"marker": "o", "markersize": 2.5 if len(points) > 1 else 5} if best or len(points) == 1 else {}
        )
        style = "--" if is_refit else "-"
        panel.plot(*zip(*points, strict=True), color=colour, linewidth=1.7, linestyle=style, **dots)
        kept = dict(points).get(outcome.best_epoch)
        if best and kept is not None:
            panel.plot(outcome.best_epoch, kept, "o", ms=8, mfc="white", mec=colour, mew=1.8, zorder=3)
            label += f"\n{kept:.4f} at epoch {outcome.best_epoch}"
        ends.append((points[-1], label, colour))
    name_ends(panel, ends, gap=0.17 if best else 0.14)


def name_ends(panel, ends, gap):
    """The label of each line beside the panel, with a dotted leader from the line's last point."""
    bottom, top = panel.get_ylim()
    heights = spread([(end[1] - bottom) / (top - bottom) for end, _, _ in ends], gap)
    place = {"textcoords": "axes fraction", "va": "center", "annotation_clip": False, "fontsize": 9.5}
    leader = {
        "arrowstyle": "-",
        "alpha": 0.5,
        "linewidth": 0.8,
        "linestyle": ":",
        "shrinkA": 2,
        "relpos": (0, 0.5),
    }
    for (end, label, colour), height in zip(ends, heights, strict=True):
        panel.annotate(
            label, end, (1.04, height), color=colour, arrowprops={"color": colour, **leader}, **place
        )


def spread(heights, gap):
    """``heights`` in their order and at least ``gap`` apart, moved no further from 0..1 than they must."""
    placed = np.array(heights, float)
    for lower, upper in pairwise(np.argsort(placed, kind="stable")):
        placed[upper] = max(placed[upper], placed[lower] + gap)
    if len(placed):
        placed += np.mean(heights) - placed.mean()
        placed += max(0.0, -placed.min()) - max(0.0, placed.max() - 1)
    return placed
