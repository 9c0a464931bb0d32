"""The files of a run's report: metrics as JSON, a page to read, the learning curve as a picture, ranks as Parquet."""

import re
from dataclasses import asdict
from pathlib import Path

from ..errors import DataError
from .curve import learning_curve
from .manifest import write_bytes, write_json
from .outcomes import CONVENTIONS, ONLY, RANK_COLUMN, baselines
from .page import page
from .protocol import KEPT
from .ranks import metrics_from
from .significance import ONE_USER, RESAMPLES, compare


def write(folder, outcomes, manifest):
    """Write the report of ``outcomes`` into ``folder``, the manifest last: where it stands, the report is complete.

    Files: ``metrics.json``, ``report.md``, ``learning_curve.png``, ``manifest.json`` and, unless an outcome's setting
    ``saved`` is False or it has no ranks, ``ranks.parquet`` (of the first) or ``ranks-<name>.parquet``.
    """
    folder = Path(folder)
    (folder / "manifest.json").unlink(missing_ok=True)  # of a report that this one replaces
    kept = ranks_files(outcomes)
    for name, ranks in kept.items():
        write_bytes(folder / name, ranks.to_parquet(index=False))
    tests = [test_against(outcomes[0], baseline) for baseline in baselines(outcomes)]
    write_bytes(folder / "learning_curve.png", learning_curve(outcomes))
    write_json(folder / "metrics.json", metrics_of(outcomes, tests))
    write_bytes(folder / "report.md", page(folder, outcomes, tests, manifest, kept).encode())
    write_json(folder / "manifest.json", manifest)


def ranks_files(outcomes):
    """File name -> frame of ranks, of the outcomes whose ranks are kept."""
    files = {}
    for place, outcome in enumerate(outcomes):
        if outcome.ranks is not None and outcome.settings.get("saved") is not False:
            plain_name = re.sub(r"[^\w.-]+", "-", outcome.name).strip("-")
            files[f"ranks-{plain_name}.parquet" if place else "ranks.parquet"] = outcome.ranks
    return files


def test_against(first, baseline):
    """The paired tests of NDCG@10 by convention, or ``reason`` why there are none."""
    found = {"baseline": baseline.name, "metric": "ndcg@10", "resamples": RESAMPLES}
    if first.ranks is None or baseline.ranks is None:
        return found | {"reason": "its protocol, or the baseline's, gives no ranks"}
    if first.ranks["user"].nunique() < 2:
        return found | {"reason": f"{ONE_USER}; nothing is said of differences over users"}
    try:
        return found | {
            kind: asdict(compare(first.ranks, baseline.ranks, RANK_COLUMN[kind])) for kind in CONVENTIONS
        }
    except DataError as error:
        return found | {"reason": str(error)}


def metrics_of(outcomes, tests):
    """What ``metrics.json`` holds."""
    rows = [
        {
            "name": outcome.name,
            "test": {kind: getattr(outcome.test, kind) for kind in CONVENTIONS},
            "conventions": CONVENTIONS if outcome.test.masked else ONLY,
            "valid": outcome.valid,
            "best_epoch": outcome.best_epoch,
            "curve": outcome.curve,
            "seconds": outcome.seconds,
            "parameters": outcome.parameters,
            "frozen": outcome.frozen,
            "peak_memory_gib": outcome.peak_memory_gib,
            "beyond_accuracy": outcome.beyond,
            "shortened": {k: _both_ways(ranks) for k, ranks in outcome.shortened.items()},
            "disturbed": {k: _both_ways(ranks) for k, ranks in outcome.disturbed.items()},
            "remarks": list(outcome.remarks),
            "leaks": asdict(outcome.leaks) if outcome.leaks else None,
            "protocol": {key: outcome.settings.get(key) for key in KEPT},
        }
        for outcome in outcomes
    ]
    return {"outcomes": rows, "differences": tests}


def _both_ways(ranks):
    return {kind: metrics_from(ranks[column], [10]) for kind, column in RANK_COLUMN.items()}
