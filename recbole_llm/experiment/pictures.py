"""The pictures of a benchmark: accuracy with its interval, beside what it costs, and while it is learnt; PNG."""

import io

import numpy as np

from ..evaluation.curve import name_ends
from ..evaluation.markdown import pretty
from ..evaluation.significance import bootstrap_interval

OURS, OTHERS, INK = "#0072B2", "#8A8A8A", "#333333"
UNITS = {
    "s": (1, (0.01, 0.1, 1, 2, 5, 10, 20, 30)),
    "min": (60, (1, 2, 5, 10, 20, 30)),
    "h": (3600, (1, 2, 5, 10, 20, 50, 100)),
}
MARKS = {unit * count: f"{count} {name}" for name, (unit, counts) in UNITS.items() for count in counts}
MOST = 9  # marks of time on an axis
MARGIN = 0.03  # of a picture whose lines or dots are named beside it


def bars(findings, ours=(), metric="ndcg@10", kind="masked"):
    """The metric of each model that was tested, the best at the top, with a 95 % bootstrap interval over the users."""
    done = sorted((found for found in findings if found.seeds), key=lambda found: found.users[kind].mean())
    means = [found.users[kind].mean() for found in done]
    ends = np.array([bootstrap_interval(found.users[kind].to_numpy()) for found in done])
    figure, panel = _figure(8, 0.9 + 0.42 * len(done))
    colours = [OURS if found.name in ours else OTHERS for found in done]
    panel.barh([found.name for found in done], means, color=colours, height=0.62)
    panel.errorbar(
        means, range(len(done)), xerr=np.abs(ends.T - means), fmt="none", ecolor=INK, elinewidth=1, capsize=3
    )
    for place, (mean, (_, high)) in enumerate(zip(means, ends, strict=True)):
        panel.annotate(
            f"{mean:.4f}",
            (high, place),
            (6, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
            color=INK,
        )
    panel.set_xlim(0, max(ends[:, 1].max() * 1.15, 1e-6))
    return _png(figure, panel, f"{pretty(metric)}, history masked, 95 % interval over users", axis="x")


def cost(findings, ours=(), metric="ndcg@10", kind="masked"):
    """The metric of each model beside the time of a training, on a logarithmic axis; a larger dot has more weights."""
    done = [found for found in findings if found.seeds]
    figure, panel = _figure(8, 4.4, margin=MARGIN)
    seconds = [max(found.seconds, 0.1) for found in done]
    means = [found.users[kind].mean() for found in done]
    sizes = [30 + 40 * np.log10(max(found.parameters, 1)) for found in done]
    panel.scatter(
        seconds, means, sizes, color=[OURS if found.name in ours else OTHERS for found in done], alpha=0.85
    )
    panel.set_xlim(min(seconds) / 2, max(seconds) * 2)
    _of_time(panel, "time of a training")
    panel.set_ylim(0, max(max(means) * 1.12, 1e-6))
    colours = [OURS if found.name in ours else INK for found in done]
    ends = zip(zip(seconds, means, strict=True), (found.name for found in done), colours, strict=True)
    name_ends(panel, list(ends), gap=0.06)
    return _png(figure, panel, f"{pretty(metric)}, history masked, beside its cost")


def curves(findings, ours=()):
    """The validation metric of each model beside the seconds it had trained, first seed, on a logarithmic axis."""
    figure, panel = _figure(8, 4.4, margin=MARGIN)
    ends, validated = [], ""
    for found in findings:
        seconds = np.cumsum([entry["seconds"] for entry in found.curve]).clip(0.01)
        key = found.valid_metric.lower()
        points = [(x, e[key]) for x, e in zip(seconds, found.curve, strict=True) if key in e]
        if not points:
            continue
        colour, validated = OURS if found.name in ours else OTHERS, found.valid_metric
        mark = {"marker": "o", "markersize": 2.5 if len(points) > 1 else 5}
        panel.plot(*zip(*points, strict=True), color=colour, linewidth=1.6, **mark)
        ends.append((points[-1], found.name, colour))
    _of_time(panel, "time of training")
    panel.set_ylim(0, None)
    name_ends(panel, ends, gap=0.06)
    return _png(figure, panel, f"{validated} on the validation part while training")


def _of_time(panel, label):
    """Make the panel's horizontal axis one of time, logarithmic, with marks at round seconds, minutes and hours."""
    panel.set_xscale("log")
    low, high = panel.get_xlim()
    marks = {seconds: word for seconds, word in MARKS.items() if low <= seconds <= high}
    if len(marks) > MOST:
        marks = {seconds: word for seconds, word in marks.items() if word.split()[0] in ("1", "10")}
    panel.set_xticks(list(marks), marks.values())
    panel.minorticks_off()
    panel.set_xlabel(label, fontsize=10, color=INK)


def _figure(width, height, margin=0.0):
    """A figure, with a share of its width left free at the right, and its panel."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    figure.get_layout_engine().set(rect=(0, 0, 1 - margin, 1))
    FigureCanvasAgg(figure)
    panel = figure.subplots()
    panel.spines[["top", "right"]].set_visible(False)
    panel.spines[["left", "bottom"]].set_color("#888888")
    panel.tick_params(colors="#444444", labelsize=9)
    panel.set_axisbelow(True)
    return figure, panel


def _png(figure, panel, title, axis="both"):
    """The finished picture, with lines across along an axis."""
    panel.set_title(title, loc="left", fontsize=11, fontweight="bold", color=INK)
    panel.grid(axis=axis, color="#E4E4E4", linewidth=0.8)
    content = io.BytesIO()
    figure.savefig(content, format="png")
    return content.getvalue()
