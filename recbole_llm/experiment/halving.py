"""Asynchronous successive halving: which trials of a search go on, and that a search that was killed knows it still.

A trial that comes to a rung, an epoch of ``grace`` times a power of three, goes on if its score is not below that of
the best third of the trials that came there before. Liam Li et al., "A System for Massively Parallel Hyperparameter
Tuning", MLSys 2020, https://arxiv.org/abs/1810.05934. The decisions are those of Ray's ASHAScheduler, which forgets its
rungs when a search is restored; here every report stands in a file before it is answered, by the name of the trial.
"""

import json

import numpy as np

from ..evaluation.manifest import write_json

FACTOR = 3  # one of so many trials is promoted from a rung to the next


class Halving:
    """The rungs of a search.

    Parameters
    ----------
    grace : int
        The first rung: epochs that every trial is given.
    epochs : int
        Of a whole trial.
    file : Path
        Where the reports stand; those of a search that was stopped are read from it.
    """

    def __init__(self, grace, epochs, file):
        self.rungs, self.stopped, self.file, self.reports = {}, set(), file, []
        while grace <= epochs:
            self.rungs = {grace: {}} | self.rungs  # the last one first
            grace *= FACTOR
        for report in json.loads(file.read_text(encoding="utf-8")) if file.is_file() else ():
            self._take_in(*report)

    def goes_on(self, trial, epochs, score):
        """Whether ``trial``, whose best validation within so many ``epochs`` is ``score``, is trained on."""
        self._take_in(trial, epochs, score)
        write_json(self.file, self.reports)
        return trial not in self.stopped

    def _take_in(self, trial, epochs, score):
        self.reports.append([trial, epochs, score])
        scores = next((scores for rung, scores in self.rungs.items() if rung <= epochs), None)
        if scores is None or trial in scores:  # between two rungs
            return
        if scores and score < np.percentile(list(scores.values()), 100 * (1 - 1 / FACTOR)):
            self.stopped.add(trial)
        scores[trial] = score
