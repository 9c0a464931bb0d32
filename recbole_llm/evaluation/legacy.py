"""MRR and NDCG as the released code of LLM4SBR counts them: higher than they are; to compare with what was published.

A target that ranks from k + 1 to 20 gives nothing to the lists of MRR@k and NDCG@k there, so that it is left out of the
mean, where it should count as 0; one below 20 counts as 0. Right values are the published ones times 1 - (P@20 - P@k).
Recall (which the paper calls P) and all of @20 are not touched.
"""

import numpy as np

from .markdown import table
from .outcomes import CONVENTIONS, RANK_COLUMN
from .ranks import metrics_from

LONGEST = 20


def legacy_metrics_from(ranks, topk, longest=LONGEST):
    """``metrics_from`` with the rows left out that rank from k + 1 to ``longest``; Recall@k is over all rows."""
    ranks, found = np.asarray(ranks, float), {}
    for k in topk:
        counted = ranks[(ranks <= k) | (ranks > longest)]
        found |= {f"recall@{k}": float((ranks <= k).mean())}
        kept = metrics_from(counted, [k]) if len(counted) else {f"ndcg@{k}": 0.0, f"mrr@{k}": 0.0}
        found |= {name: float(kept[name]) for name in (f"ndcg@{k}", f"mrr@{k}")}
    return found


def section(outcomes):
    """The page's part on them where ``legacy_mrr`` asks for it; else empty."""
    outcomes = [
        outcome for outcome in outcomes if outcome.settings.get("legacy_mrr") and outcome.ranks is not None
    ]
    if not outcomes:
        return ""
    topk = [k for k in outcomes[0].settings["topk"] if k <= LONGEST]
    rows = []
    for outcome in outcomes:
        for kind, column in RANK_COLUMN.items():
            right, legacy = (of(outcome.ranks[column], topk) for of in (metrics_from, legacy_metrics_from))
            for k in topk:
                cells = [
                    f"{found[f'{name}@{k}']:.4f}" for name in ("mrr", "ndcg") for found in (right, legacy)
                ]
                rows.append([outcome.name, CONVENTIONS[kind].partition(" (")[0], str(k), *cells])
    head = ["model", "history", "k", "MRR@k", "as published", "NDCG@k", "as published"]
    return (
        "## As LLM4SBR's released code counts\n\nThat code leaves targets that rank from k + 1 to 20 out of the means "
        f"of MRR@k and NDCG@k, which are then too high.\n\n{table(head, rows)}"
    )
