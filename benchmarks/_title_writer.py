"""A generative recommender to be compared with: a T5 that reads titles and writes the next one, by beam search.

As P5 and its like do (Shijie Geng et al., RecSys 2022, https://arxiv.org/abs/2203.13366), with titles for item ids. For
evaluation only: what it writes is mapped to an item, the same title first (case and spaces aside), else the most alike,
else nothing.

Shapes: B users, T tokens.
"""

import difflib

import torch

BEAMS = 10
LONGEST = 32  # tokens of a title
MAX_PROMPT = 2048  # tokens of a history
ALIKE = 0.8  # of two titles, by difflib's ratio


class TitleWriter:
    """A T5 with its tokenizer, the titles of the items and what is told of them, by item id (padding first)."""

    def __init__(self, model, tokenizer, titles, told, max_items=50):
        self.model, self.tokenizer, self.max_items = model, tokenizer, max_items
        self.titles, self.told = titles, told
        # of two items with one title the first
        self.item_of = {plain(title): item for item, title in reversed(list(enumerate(titles))) if title}

    def prompt(self, history):
        """The text of a history, a list of item ids, its newest ``max_items`` alone."""
        return "watched: " + " ; ".join(self.told[item] for item in history[-self.max_items :])

    def fit(self, histories, targets, steps, batch_size=16, learning_rate=1e-3, seed=0):
        """Train on so many batches of (history, next item), one or more; returns the mean loss of the last tenth."""
        optimizer = torch.optim.AdamW(self.model.parameters(), lr=learning_rate)
        order, losses = torch.Generator().manual_seed(seed), []
        self.model.train()
        for _ in range(steps):
            rows = torch.randint(len(histories), (batch_size,), generator=order).tolist()
            read = self._read([histories[row] for row in rows])
            written = self._tokens([self.titles[targets[row]] for row in rows], LONGEST, "right")["input_ids"]
            labels = written.masked_fill(written == self.tokenizer.pad_token_id, -100)
            loss = self.model(**read, labels=labels).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        return sum(losses[-(steps // 10 or 1) :]) / (steps // 10 or 1)

    @torch.no_grad()
    def write(self, histories, length=None):
        """For each history ``BEAMS`` titles, the likeliest first, and how many tokens were written in all.

        With ``length`` each title has so many tokens, whatever a writer who has learnt too little would do.
        """
        self.model.eval()
        read = self._read(histories)
        limits = {"min_new_tokens": length, "max_new_tokens": length or LONGEST}
        written = self.model.generate(
            **read, num_beams=BEAMS, num_return_sequences=BEAMS, early_stopping=True, **limits
        )
        texts = self.tokenizer.batch_decode(written, skip_special_tokens=True)
        lists = [texts[first : first + BEAMS] for first in range(0, len(texts), BEAMS)]
        return lists, int((written != self.tokenizer.pad_token_id).sum())

    def recommend(self, histories, length=None):
        """For each history up to ``BEAMS`` item ids, the likeliest first, and how many tokens were written in all."""
        lists, tokens = self.write(histories, length)
        return [self.items(each) for each in lists], tokens

    def title_length(self):
        """The mean number of tokens of a title, its end included."""
        tokens = self.tokenizer([title for title in self.titles if title])["input_ids"]
        return round(sum(map(len, tokens)) / len(tokens))

    def items(self, texts):
        """The items that some texts name, each once."""
        found = (self._item(plain(text)) for text in texts)
        return list(dict.fromkeys(item for item in found if item is not None))

    def _item(self, text):
        if text not in self.item_of:
            # a search through all titles: thousands of times dearer than the look-up
            near = difflib.get_close_matches(text, self.item_of, 1, ALIKE)
            text = near[0] if near else None
        return self.item_of.get(text)

    def _read(self, histories):
        """The prompts of some histories; of one that is too long the newest items stay."""
        return self._tokens([self.prompt(history) for history in histories], MAX_PROMPT, "left")

    def _tokens(self, texts, longest, cut_at):
        self.tokenizer.truncation_side = cut_at
        return self.tokenizer(texts, padding=True, truncation=True, max_length=longest, return_tensors="pt")


def plain(title):
    """A title without what a writer may change in it and name the same item: case, and how its words are spaced."""
    return " ".join(title.casefold().split())
