"""The page of a run's report: what was reached, beside what, how, and how to get it again; Markdown."""

from . import beyond, leaks, legacy
from .making import files, reproduction, settings, texts, training
from .markdown import pretty, signed, table
from .outcomes import CONVENTIONS, ONLY, RANK_COLUMN, baselines, capital, validated, validation_of
from .protocol import history, split
from .ranks import metrics_from
from .significance import side_of
from .slices import by_disturbed, by_history, by_item, by_shortened, made_new, own_vectors

HIGHER_IS_BETTER = {"recall", "ndcg", "mrr", "hit", "map", "precision", "auc", "gauc"}


def page(folder, outcomes, tests, manifest, kept):
    """The text of ``report.md``."""
    first = outcomes[0]
    rivals = [first, *baselines(outcomes)]
    sections = [
        f"# {first.name} on {first.settings['dataset']}",
        headline(first, tests),
        f"## Results on the test part\n\n{results(outcomes)}",
        significance(first, tests),
        f"## Protocol\n\n{protocol(outcomes)}",
        leaks.section(first),
        f"## Training\n\n![Learning curve](learning_curve.png)\n\n{training(outcomes)}",
        by_item(rivals),
        made_new(rivals),
        by_history(rivals),
        by_shortened(rivals),
        by_disturbed(rivals),
        own_vectors(first),
        legacy.section(rivals),
        beyond.section(rivals),
        texts(first),
        f"## Settings\n\n{settings(outcomes)}",
        f"## To get these numbers again\n\n{reproduction(folder, manifest)}",
        f"## Files\n\n{files(folder, outcomes, kept)}",
    ]
    return "\n\n".join(filter(None, sections)) + "\n"


def headline(first, tests):
    """One sentence: what was reached, and how far from the baselines."""
    kind = "masked" if first.test.masked else "unmasked"
    found = getattr(first.test, kind)
    metric = next(
        (name for name in ("ndcg@10", first.settings["valid_metric"].lower()) if name in found),
        next(iter(found)),
    )
    convention = (CONVENTIONS if first.test.masked else ONLY)[kind]
    beside = "".join(
        f"; {signed(test[kind]['mean'])} against {test['baseline']} "
        f"(95 % interval {signed(test[kind]['low'])} to {signed(test[kind]['high'])})"
        for test in tests
        if kind in test and metric == test["metric"]
    )
    return f"**{pretty(metric)} {found[metric]:.4f}**, {convention}{beside}."


def results(outcomes):
    """A table for each convention, the better of model and baseline in bold."""
    parts = []
    rivals = [outcomes[0], *baselines(outcomes)]
    for kind, convention in CONVENTIONS.items():
        both_ways = [outcome for outcome in outcomes if outcome.test.masked]
        if both_ways:
            parts.append(f"**{capital(convention)}**\n\n{_metric_table(both_ways, kind, rivals)}")
    one_way = [outcome for outcome in outcomes if not outcome.test.masked]
    if one_way:
        parts.append(f"**{capital(ONLY['unmasked'])}**\n\n{_metric_table(one_way, 'unmasked', rivals)}")
    if len(outcomes) > len(rivals):
        parts.append(
            "A refit was trained on the validation targets too, for as many epochs as were best before. It is the "
            "model to serve; its numbers compare only with others that were trained so."
        )
    return "\n\n".join(parts)


def _metric_table(outcomes, kind, rivals):
    names = list(getattr(outcomes[0].test, kind))
    rows = []
    for outcome in outcomes:
        row = [outcome.name]
        for name in names:
            value = getattr(outcome.test, kind).get(name)
            others = [getattr(r.test, kind).get(name, value) for r in rivals if r in outcomes]
            best = outcome in rivals and len(others) > 1 and name.partition("@")[0] in HIGHER_IS_BETTER
            text = "" if value is None else f"{value:.4f}"
            row.append(f"**{text}**" if text and best and value == max(others) else text)
        rows.append(row)
    return table(["", *map(pretty, names)], rows)


def significance(first, tests):
    """The paired tests against the baselines."""
    parts = []
    for test in tests:
        title = f"## Is the difference from {test['baseline']} more than chance?"
        if "reason" in test:
            parts.append(f"{title}\n\nNot tested: {test['reason']}.")
            continue
        rows = [
            [
                convention,
                f"{test[kind]['ours']:.4f}",
                f"{test[kind]['theirs']:.4f}",
                signed(test[kind]["mean"]),
                f"{signed(test[kind]['low'])} to {signed(test[kind]['high'])}",
                "< 0.001" if test[kind]["p"] < 0.001 else f"{test[kind]['p']:.3f}",
            ]
            for kind, convention in CONVENTIONS.items()
        ]
        head = ["NDCG@10 from the ranks", first.name, test["baseline"], "difference", "95 % interval", "p"]
        parts.append(
            f"{title}\n\n{table(head, rows)}\n\n{_verdict(first, test)} The interval is a paired bootstrap over the "
            f"{test['masked']['users']:,} users, p a sign-flip permutation test on their differences, "
            f"{test['resamples']:,} draws each. Both speak of the users, not of the seed: each model was trained once, "
            "and another seed moves its numbers too."
        )
    return "\n\n".join(parts)


def _verdict(first, test):
    """What interval and p say together, in words."""
    words, sides = {1: "is higher", -1: "is lower", 0: "cannot be told apart from its baseline"}, {}
    for kind, convention in CONVENTIONS.items():
        side = words[side_of(test[kind])]
        sides.setdefault(side, []).append(f"with {convention.partition(' (')[0]}")
    if len(sides) == 1:
        return f"{first.name} {next(iter(sides))} under both conventions."
    return f"{first.name} {' and '.join(f'{side} {where[0]}' for side, where in sides.items())}."


def protocol(outcomes):
    """How the numbers were made, as a list."""
    first = outcomes[0]
    chosen = first.settings
    mode = chosen["eval_args"].get("mode")
    mode = mode.get("test") if isinstance(mode, dict) else mode
    n_items = getattr(first, "n_items", None)
    every = (
        f"all {n_items:,} items are ranked, none is sampled"
        if n_items
        else "all items are ranked, none is sampled"
    )
    lines = [
        split(chosen),
        f"**Ranking:** {every if mode in (None, 'full') else f'sampled candidates, `{mode}`'}.",
        f"**Choice:** {_choice(first)}. The test part was read once for each model, at its end.",
        f"**Seed:** {chosen.get('seed')}.",
    ]
    if first.test.masked:
        lines[2:2] = [
            history([outcome.name for outcome in outcomes if outcome.settings.get("no_repeats")]),
            "**Ties:** in the ranks, half of the items with the target's score come before it; RecBole's metrics break "
            f"ties arbitrarily. {_ties(outcomes)}".rstrip(),
        ]
    return "\n".join(f"- {line}" for line in lines)


def _choice(first):
    """Which epoch's weights are tested."""
    if not validated(first):
        return "the weights after the last epoch, for nothing was validated"
    some = first.settings.get("valid_users")
    sample = f", measured on at most {some:,} users drawn once by the seed" if some else ""
    return f"the weights of the epoch with the best {validation_of(first)}{sample}"


def _ties(outcomes):
    """What the ties come to: NDCG@10 from the ranks beside RecBole's, where both are known."""
    apart, compared = [], 0
    for outcome in outcomes:
        for kind, column in RANK_COLUMN.items():
            theirs = (getattr(outcome.test, kind) or {}).get("ndcg@10")
            if outcome.ranks is not None and theirs is not None:
                ours = metrics_from(outcome.ranks[column], [10])["ndcg@10"]
                compared += 1
                if abs(ours - theirs) > 6e-5:  # RecBole rounds to four digits
                    apart.append(
                        f"{outcome.name}, {CONVENTIONS[kind].partition(' (')[0]}: {ours:.4f}, not {theirs:.4f}"
                    )
    if apart:
        return f"This moves NDCG@10 ({'; '.join(apart)})."
    return "Here both give the same NDCG@10 to four digits." if compared else ""
