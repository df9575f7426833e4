"""A table as LaTeX."""

from collections.abc import Sequence

SIGNS = {
    "\\": r"\textbackslash{}", "%": r"\%", "_": r"\_", "&": r"\&", "#": r"\#", "$": r"\$", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "×": r"$\times$",
}  # fmt: skip


def latex(rows: Sequence[Sequence[str]], note: str) -> str:
    """Rows of cells, the header first, as a tabular with the rules of the package booktabs; the note is a comment.

    Columns of numbers, and empty ones, are aligned to the right.
    """
    header, *body = ([_escaped(cell) for cell in row] for row in rows)
    numbers = [all(cell[:1].isdigit() or not cell for cell in column) for column in zip(*rows[1:], strict=True)]
    columns = "".join("r" if number else "l" for number in numbers)
    lines = [f"{' & '.join(row)} \\\\" for row in body]
    return "\n".join([
        r"% \usepackage{booktabs}",
        *(f"% {line}" for line in note.splitlines()),
        f"\\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        f"{' & '.join(header)} \\\\",
        r"\midrule",
        *lines,
        r"\bottomrule",
        r"\end{tabular}",
        "",
    ])  # fmt: skip


def _escaped(cell: str) -> str:
    return "".join(SIGNS.get(letter, letter) for letter in cell)
