"""The main job: LLMSeqRec on ml-100k beside RecBole's SASRec of equal size, trained alike, in one run."""

import json
from time import perf_counter

from benchmarks import _rows
from recbole_llm.train.run import main as run


def main():
    """Run the job as ``make run`` does and print its figures."""
    options = _rows.parser(__doc__).parse_args()
    started = perf_counter()
    folder = run(["--model=LLMSeqRec", "--dataset=ml-100k", "--baseline=SASRec"])
    minutes = (perf_counter() - started) / 60
    ours, theirs = json.loads((folder / "metrics.json").read_text())["outcomes"]
    rows = [
        _rows.Row("whole job, embedding and baseline included (5 at most)", minutes, None, None, "minutes")
    ]
    for convention in ("unmasked", "masked"):
        for metric in ("ndcg@10", "recall@10"):
            pair = (outcome["test"][convention][metric] for outcome in (ours, theirs))
            rows.append(_rows.Row(f"test {metric}, history {convention}", *pair, 1.0, "ratio"))
    _rows.show("ml-100k: LLMSeqRec / RecBole's SASRec on the same dense rows", rows, options.json)


if __name__ == "__main__":
    main()
