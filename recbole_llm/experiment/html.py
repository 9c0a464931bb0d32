"""A page's Markdown, of the few forms that it has, as one HTML file with its pictures inside."""

import base64
import html

STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:75em;margin:2em auto;padding:0 1em;color:#222}"
    "table{border-collapse:collapse;margin:1em 0;font-variant-numeric:tabular-nums}"
    "th,td{padding:.25em .7em;border-bottom:1px solid #ddd;text-align:right}"
    "th:first-child,td:first-child{text-align:left}img{max-width:100%}pre{background:#f6f6f6;padding:.6em}"
)


def as_html(text, drawn):
    """The HTML of Markdown ``text``; ``drawn`` is PNG bytes by file name."""
    blocks = []
    for block in text.strip().split("\n\n"):
        first, _, rest = block.partition("\n")
        if first.startswith("#"):
            level = len(first) - len(first.lstrip("#"))
            blocks.append(f"<h{level}>{html.escape(first.lstrip('# '))}</h{level}>")
        elif first.startswith("| "):
            blocks.append(_html_table(block))
        elif first.startswith("!["):
            name, file = block[2:-1].split("](")
            data = base64.b64encode(drawn[file]).decode()
            blocks.append(f'<img alt="{html.escape(name)}" src="data:image/png;base64,{data}">')
        elif first == "```yaml":
            blocks.append(f"<pre>{html.escape(rest.removesuffix('```'))}</pre>")
        elif first.startswith("<"):
            blocks.append(block)
        elif first.startswith("- "):
            blocks.append(
                "<ul>" + "".join(f"<li>{_inline(line[2:])}</li>" for line in block.split("\n")) + "</ul>"
            )
        else:
            blocks.append(f"<p>{_inline(block)}</p>")
    title = html.escape(text.partition("\n")[0].lstrip("# "))
    head = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{STYLE}</style>'
    )
    return head + "\n".join(blocks) + "\n"


def _html_table(block):
    lines = [line.removeprefix("| ").removesuffix(" |").split(" | ") for line in block.split("\n")]
    rows = [lines[0], *lines[2:]]
    cells = [
        "<tr>" + "".join(f"<{tag}>{_inline(cell.strip())}</{tag}>" for cell in row) + "</tr>"
        for row, tag in zip(rows, ["th", *["td"] * (len(rows) - 1)], strict=True)
    ]
    return f"<table>{''.join(cells)}</table>"


def _inline(text):
    """Escaped text in which ``**`` and single backquotes mean what they mean in Markdown."""
    pieces = html.escape(text, quote=False).split("**")
    strong = "".join(f"<b>{piece}</b>" if place % 2 else piece for place, piece in enumerate(pieces))
    pieces = strong.split("`")
    return "".join(f"<code>{piece}</code>" if place % 2 else piece for place, piece in enumerate(pieces))
