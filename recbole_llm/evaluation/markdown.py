"""Small pieces of Markdown text: tables, names of metrics, differences, shares, durations."""


def table(head, rows):
    """A Markdown table; the first column stands left, the others right."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(
        f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in line)} |" for line in lines
    )


def pretty(metric):
    """``ndcg@10`` as ``NDCG@10``, ``recall@10`` as ``Recall@10``."""
    name, _, k = metric.partition("@")
    name = name.upper() if name in ("ndcg", "mrr", "map", "auc", "gauc", "mae", "rmse") else name.capitalize()
    return f"{name}@{k}" if k else name


def signed(value):
    """A difference with its sign and four digits."""
    return f"{value:+.4f}"


def percent(part, whole):
    """A share with one decimal; 100 % only where nothing lacks."""
    share = 100 * part / whole if whole else 0.0
    return f"{min(share, 99.9) if part < whole else share:.1f} %"


def whole_percent(share, sign=""):
    """A share without decimals: 0.25 as ``25 %``, with its ``sign`` where that is ``+``."""
    return f"{100 * share:{sign}.0f} %"


def duration(seconds):
    """Seconds as hours and minutes, minutes and seconds, or seconds."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return (
        f"{hours} h {minutes:02} min"
        if hours
        else f"{minutes} min {seconds:02} s"
        if minutes
        else f"{seconds} s"
    )
