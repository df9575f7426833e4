"""Pictures of tickets and runs: what the papers show, and what proves their story.

python -m utils.picture line --tickets A B C           the loss along the lines A–B, B–C: a basin or a wall
python -m utils.picture trajectories --tickets RUN/trajectory/*    where training went, by t-SNE (run with --save-every)
python -m utils.picture disagreement --tickets A B C   images that two tickets predict differently
python -m utils.picture features --tickets A B C       in which layers the networks of an ensemble differ
python -m utils.picture overlap --tickets A B C        connections that two tickets share
python -m utils.picture reliability --tickets A B C    accuracy at each confidence, of tickets and their ensemble
python -m utils.picture density --runs RUN ...         density over time
python -m utils.picture accuracy --runs RUN ...        accuracy against sparsity and against training FLOPs

In full precision and one process. Images are those that the tickets were tested on; --limit-test takes fewer.
"""

from utils.command_line.commands.picture import PictureOptions
from utils.command_line.parser import parse
from utils.command_line.program import start

if __name__ == "__main__":  # a mistake is answered before the imports below, which take seconds
    start()
    OPTIONS = parse(PictureOptions, __doc__)

from collections.abc import Callable

from sparselearning.errors import UsageError
from utils.command_line.errors import one_line_errors
from utils.command_line.paths import writing
from utils.files.whole import write_json
from utils.pictures import features, heat_maps, line, reliability, runs, trajectories
from utils.pictures.opening import Drawn
from utils.reporting.style import FORMATS, save

# to add a picture, add its row here and its name in utils/command_line/commands/picture.py
PICTURES: dict[str, Callable[[PictureOptions], Drawn]] = {
    "line": line.picture,
    "trajectories": trajectories.picture,
    "disagreement": heat_maps.disagreement,
    "features": features.picture,
    "overlap": heat_maps.overlap,
    "reliability": reliability.picture,
    "density": runs.density,
    "accuracy": runs.accuracy,
}


@one_line_errors()
def main(options: PictureOptions) -> None:
    file = options.file
    if file.suffix[1:] not in FORMATS:
        raise UsageError(f"--output {file} is no kind of picture: give it a name that ends in .png, .svg or .pdf")
    drawn = PICTURES[options.picture](options)
    with writing("--output", file):
        save(drawn.figure, file)
    if options.json:
        with writing("--json", options.json):
            write_json(options.json, drawn.numbers)
    print(f"{file} shows the {options.picture}")


if __name__ == "__main__":
    main(OPTIONS)
