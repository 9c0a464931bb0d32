"""An encoder whose vectors can be computed in one's head: how often each letter stands in the text."""

import numpy as np

LETTERS = "abcdefghijklmnopqrstuvwxyz"
MANY = {f"i{number}": (LETTERS[number % 26] * (1 + number // 26),) for number in range(30)}


class FakeEncoder:
    """Counts letters; keeps every text it was asked for, and can be interrupted in a batch."""

    pooling = "mean"
    dimension = len(LETTERS)

    def __init__(self, batch_size=4, stop_in_batch=None, before=lambda: None, **description):
        self.batch_size = batch_size
        self.stop_in_batch = stop_in_batch
        self.before = before
        self.description = {
            "name": "letters",
            "revision": "r1",
            "pooling": "mean",
            "max_tokens": 8,
        } | description
        self.name, self.revision = self.description["name"], self.description["revision"]
        self.batches = []

    def describe(self):
        return self.description

    def encode(self, texts):
        self.batches.append(list(texts))
        self.before()
        if len(self.batches) == self.stop_in_batch:
            raise KeyboardInterrupt
        return np.array([[text.count(letter) for letter in LETTERS] for text in texts], dtype=np.float32)

    @property
    def asked(self):
        return [text for batch in self.batches for text in batch]
