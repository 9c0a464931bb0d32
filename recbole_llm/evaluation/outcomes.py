"""What the rooms of the report know of an outcome; it has the attributes of ``train.run.Outcome``.

The first outcome is the run's model; one of the same model after it is its refit and is never tested against it; one of
another model is a baseline.
"""

CONVENTIONS = {
    "masked": "history masked (the literature's convention)",
    "unmasked": "history not masked (RecBole's convention)",
}
ONLY = {
    "unmasked": "RecBole's own evaluation of this kind of model"
}  # a protocol that has no two conventions
RANK_COLUMN = {"masked": "rank_masked", "unmasked": "rank"}


def baselines(outcomes):
    """The outcomes of another model than the first one's."""
    return [outcome for outcome in outcomes[1:] if model_of(outcome) != model_of(outcomes[0])]


def model_of(outcome):
    """The model's name in the settings; the outcome's own name may say more."""
    return outcome.settings.get("model", outcome.name)


def validation_of(outcome):
    """The name of what is validated, with its convention where there are two."""
    kind = "masked" if outcome.settings.get("mask_history") else "unmasked"
    convention = f", {CONVENTIONS[kind].partition(' (')[0]}" if outcome.test.masked else ""
    return f"{outcome.settings['valid_metric']} on the validation part{convention}"


def validated(outcome):
    """The epochs of an outcome that were validated."""
    return [entry for entry in outcome.curve if outcome.settings["valid_metric"].lower() in entry]


def capital(text):
    """``text`` with a capital first letter."""
    return text[:1].upper() + text[1:]
