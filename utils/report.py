"""The papers' tables from run folders: accuracy at every stage of a run, as mean ± standard deviation over the seeds.

python -m utils.report runs/                        every finished run below, a row per setting
python -m utils.report runs/a runs/b --plot a.png   some, and a picture of them
python -m utils.report runs/ --significance         and whether Sup-tickets make a difference
python -m utils.report runs/ --correlation          and whether ensembles of better networks are better
python -m utils.report runs/ --layers               and the sparsity of every layer
python -m utils.report runs/ --paper sup1           and the figures of Table 1 of Sup-tickets beside them
"""

from utils.command_line.commands.report import ReportOptions
from utils.command_line.parser import parse
from utils.command_line.program import start

if __name__ == "__main__":  # a mistake is answered before the imports below, which take seconds
    start()
    OPTIONS = parse(ReportOptions, __doc__)

import csv
import io

from sparselearning.errors import UsageError
from utils.command_line.errors import one_line_errors
from utils.command_line.paths import writing
from utils.files.whole import write_json, write_whole
from utils.reporting.correlation import correlation
from utils.reporting.costs import add_costs
from utils.reporting.groups import ABOUT
from utils.reporting.groups_plot import draw_groups
from utils.reporting.latex import latex
from utils.reporting.layers import layers
from utils.reporting.paper import beside, lines_of, missing
from utils.reporting.read import find_summaries, read_groups
from utils.reporting.results import columns, distinctive_options, record, results_table
from utils.reporting.significance import significance
from utils.reporting.style import FORMATS
from utils.reporting.tables import markdown


@one_line_errors()
def main(options: ReportOptions) -> None:
    if options.plot and options.plot.suffix[1:] not in FORMATS:
        raise UsageError(f"--plot {options.plot} is no kind of picture: give it a name that ends in .png, .svg or .pdf")
    groups = read_groups(find_summaries(options.runs), options.counting)
    relative = add_costs(groups, options.dense_epochs, options.counting)
    lines = lines_of(options.paper) if options.paper else []
    papers = beside(groups, lines) if lines else None
    table = results_table(groups, papers)
    print(markdown(table) + f"\n\n{relative}")
    if options.paper and options.paper != "all":
        print("\n".join(["", *missing(lines, groups, columns(groups))]))
    if options.significance:
        print("\n" + markdown(significance(groups)))
    if options.correlation:
        print("\n" + markdown(correlation(groups)))
    if options.layers:
        print("\n" + markdown(layers(groups, distinctive_options(groups))))
    about = [*ABOUT, *distinctive_options(groups)]
    rows = [
        record(group, about, columns(groups), papers[i] if papers is not None else None)
        for i, group in enumerate(groups)
    ]
    if options.latex:
        with writing("--latex", options.latex):
            write_whole(options.latex, latex(table, relative))
    if options.json:
        with writing("--json", options.json):
            write_json(options.json, rows)
    if options.csv:
        sheet = io.StringIO(newline="")
        csv.writer(sheet).writerows([rows[0], *(row.values() for row in rows)])
        with writing("--csv", options.csv):
            write_whole(options.csv, sheet.getvalue())
    if options.plot:
        with writing("--plot", options.plot):
            draw_groups(options.plot, groups)


if __name__ == "__main__":
    main(OPTIONS)
