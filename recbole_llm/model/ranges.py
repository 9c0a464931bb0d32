"""What numbers of a model's settings must be: checked in one place, refused in one sentence."""

from ..errors import SettingError

COUNT = (lambda number: number >= 1, "1 or more")
RATE = (lambda number: 0 <= number < 1, "from 0 to less than 1")
SHARE = (lambda number: 0 <= number <= 1, "from 0 to 1")
POSITIVE = (lambda number: number > 0, "more than 0")
NOT_NEGATIVE = (lambda number: number >= 0, "0 or more")


def check_ranges(settings, ranges):
    """Refuse numbers outside their range.

    Parameters
    ----------
    settings : dataclass
    ranges : dict of str to (predicate, words)
        The names of the settings, with blanks between, that a range is for; None is always right.

    Raises
    ------
    SettingError
        It names the key, its value and the range.
    """
    for names, (right, words) in ranges.items():
        for name in names.split():
            value = getattr(settings, name)
            if value is not None and not right(value):
                raise SettingError(f"config key `{name}` is {value}, expected {words}")
