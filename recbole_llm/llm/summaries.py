"""A long history told block by block and brought to one text: merged at the end, or kept up to date on the way.

Zhi Zheng et al., "Harnessing Large Language Models for Text-Rich Sequential Recommendation", WWW 2024,
https://arxiv.org/abs/2403.13325: ``merge`` is its hierarchical, ``update`` its recurrent summarisation.
"""

from collections.abc import Callable, Sequence

from recbole_llm.errors import SettingError
from recbole_llm.llm.generate import Given, Tally
from recbole_llm.llm.wording import BLOCK_SUMMARY, MERGE_SUMMARIES, UPDATE_SUMMARY

JOINS = ("merge", "update")


def summarise(
    histories: Sequence[tuple[str, Sequence[str]]],
    block: int,
    join: str,
    ask: Callable,
) -> tuple[list[Given], Tally]:
    """One summary for each history, in their order.

    Parameters
    ----------
    histories : sequence of (token, lines)
        The oldest line first.
    block : int
        Lines of a block; the last block may be shorter.
    join : {"merge", "update"}
        ``merge`` summarises all blocks and then their summaries; ``update`` writes the summary anew for each block.
    ask : function of (template, list of (token, values))
        Gives a list of ``Given`` and a ``Tally``; see ``generate``.

    Raises
    ------
    SettingError
        If ``join`` is neither.
    """
    if join not in JOINS:
        raise SettingError(f"join is `{join}`, expected one of {', '.join(JOINS)}")
    blocks = [
        (token, [lines[first : first + block] for first in range(0, len(lines), block)] or [[]])
        for token, lines in histories
    ]
    return (_merged if join == "merge" else _updated)(blocks, ask)


def _merged(blocks, ask):
    asked = [(token, {"history": part}) for token, parts in blocks for part in parts]
    given, tally = ask(BLOCK_SUMMARY, asked)
    answers, found, several = iter(given), [], {}
    for number, (token, parts) in enumerate(blocks):
        own = [next(answers) for _ in parts]
        told = [one for one in own if one.text]
        found.append(told[-1] if told else own[-1])  # the latest stands where nothing can be merged
        if len(told) > 1:
            several[number] = (token, {"summaries": [one.text for one in told]})
    merged, more = ask(MERGE_SUMMARIES, list(several.values()))
    for number, one in zip(several, merged, strict=True):
        if one.text:
            found[number] = one
    return found, tally + more


def _updated(blocks, ask):
    given, tally = ask(BLOCK_SUMMARY, [(token, {"history": parts[0]}) for token, parts in blocks])
    for step in range(1, max((len(parts) for _, parts in blocks), default=0)):
        numbers = [number for number, (_, parts) in enumerate(blocks) if step < len(parts)]
        asked = [
            (blocks[number][0], {"summary": given[number].text, "history": blocks[number][1][step]})
            for number in numbers
        ]
        updated, more = ask(UPDATE_SUMMARY, asked)
        tally += more
        for number, one in zip(numbers, updated, strict=True):
            if one.text:  # an update that failed leaves what was known
                given[number] = one
    return given, tally
