"""A table of metrics for a paper, in LaTeX with booktabs."""

from __future__ import annotations

from collections.abc import Iterator

from hpctrain.drawing.scale import interval_decimals
from hpctrain.report.validation_file import MetricScore, TaskScores, ValidationFile, is_part

_ESCAPES = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "²": r"\textsuperscript{2}",
    "³": r"\textsuperscript{3}",
    "χ": r"$\chi$",
    "σ": r"$\sigma$",
    "Δ": r"$\Delta$",
    "µ": r"$\mu$",
    "μ": r"$\mu$",
    "Å": r"\AA{}",
    "°": r"$^\circ$",
    "−": "$-$",
    "≤": r"$\le$",
    "≥": r"$\ge$",
    "±": r"$\pm$",
    "×": r"$\times$",
    "–": "--",
    "\n": " ",
}
PACKAGES = r"\usepackage{booktabs,textcomp} and \usepackage[T1]{fontenc}"


def latex_tables(found: ValidationFile) -> str:
    """Return the metrics of all tasks as one table, and those of single classes as one table per task.

    A number has its interval as ``\\pm`` where both sides are equal as written, else as limits above and below. A share
    of which no object was found is an upper limit.

    Parameters
    ----------
    found : ValidationFile
    """
    parts = [f"% Of hpctrain {found.hpctrain_version}, run {_comment(found.run)}. Needs {PACKAGES}.", _whole(found)]
    parts += [_parts(title, task, found) for title, task in found.tasks.items()]
    return "\n".join(part for part in parts if part) + "\n"


def escaped(text: str) -> str:
    """Return a text with the characters that LaTeX interprets escaped."""
    return "".join(_ESCAPES.get(character, character) for character in text)


def number(value: float | None, low: float | None, high: float | None) -> str:
    """Return a number with its interval as LaTeX in math mode; a dash where it is not defined."""
    if value is None:
        return "--"
    decimals = interval_decimals(value, low, high)
    if decimals is None or low is None or high is None:
        return f"${value:.4g}$" if "e" not in f"{value:.4g}" else _scientific(value)
    if value == low == 0:
        return f"$<{high:.{decimals}f}$"
    below, above = f"{value - low:.{decimals}f}", f"{high - value:.{decimals}f}"
    if below == above:
        return rf"${value:.{decimals}f} \pm {above}$"
    return f"${value:.{decimals}f}_{{-{below}}}^{{+{above}}}$"


def _scientific(value: float) -> str:
    factor, exponent = f"{value:.3e}".split("e")
    return rf"${factor} \times 10^{{{int(exponent)}}}$"


def _comment(text: str) -> str:
    return " ".join(text.split())


def _whole(found: ValidationFile) -> str:
    rows: list[str] = []
    for title, task in found.tasks.items():
        own = {name: metric for name, metric in task.metrics.items() if not is_part(name)}
        if rows:
            rows.append(r"\midrule")
        rows.append(rf"\multicolumn{{3}}{{l}}{{\emph{{{escaped(title)}}}}} \\")
        rows += [rf"{_label(metric)} & {_of(metric)} & {metric.n} \\" for metric in own.values()]
    share = f"{100 * found.confidence:g}"
    caption = (
        rf"Metrics of {escaped(found.run.partition('/')[0])} on {found.num_objects} held-out objects, with {share}\,\% "
        "intervals. $N$: objects."
    )
    return _table(caption, "tab:metrics", "lrr", r"Metric & Value & $N$ \\", rows)


def _label(metric: MetricScore) -> str:
    return escaped(f"{metric.label} [{metric.unit}]" if metric.unit else metric.label)


def _of(metric: MetricScore) -> str:
    return number(metric.value, metric.low, metric.high)


def _parts(title: str, task: TaskScores, found: ValidationFile) -> str:
    """Return the metrics of single classes: a row per class, a column per metric."""
    table: dict[str, dict[str, MetricScore]] = {}
    for name, metric in task.metrics.items():
        if is_part(name):
            of, _, part = name.partition(".")
            table.setdefault(part, {})[of] = metric
    if not table:
        return ""
    columns = list(dict.fromkeys(name for metrics in table.values() for name in metrics))
    rows = list(_part_rows(table, columns))
    head = " & ".join(["", *(escaped(name.replace("_", " ")) for name in columns), "$N$"]) + r" \\"
    caption = rf"Metrics of each {escaped(title)}, with {100 * found.confidence:g}\,\% intervals. $N$: true objects."
    return _table(caption, f"tab:{_key(title)}", "l" + "r" * (len(columns) + 1), head, rows)


def _part_rows(table: dict[str, dict[str, MetricScore]], columns: list[str]) -> Iterator[str]:
    for part, metrics in table.items():
        cells = [_of(metrics[name]) if name in metrics else "--" for name in columns]
        first = next(iter(metrics.values()))
        yield " & ".join([escaped(part), *cells, str(first.n)]) + r" \\"


def _key(text: str) -> str:
    return "".join(character for character in text.lower() if character.isalnum() or character == "-")


def _table(caption: str, label: str, columns: str, head: str, rows: list[str]) -> str:
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{caption}}}",
        rf"\label{{{label}}}",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        head,
        r"\midrule",
        *rows,
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines)
