"""`bestserve classify` on the command line: its words; what it does lives in `classify_verbs`."""

import sys
from pathlib import Path
from typing import Any

import click

FILE = click.Path(dir_okay=False, path_type=Path)
FOLDER = click.Path(file_okay=False, path_type=Path)


class OrText(click.Group):
    """A group whose first word may be no verb: then it is what `tell` is asked."""

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        """Puts `tell` before what is no verb."""
        if args and args[0] not in self.commands and args[0] not in ("-h", "--help"):
            args = ["tell", *args]
        return super().parse_args(context, args)


@click.group(cls=OrText)
def classify() -> None:
    """Tell what kind of work a prompt is, and how long its answer gets: `bestserve classify "write a haiku"`. Train the classifier."""


@classify.command()
@click.argument("text")
@click.option("--before", default="", help="The user's message before it.")
@click.option("--system", default="", help="The system prompt.")
@click.option("--weights", "path", type=FILE, help="A weights file, instead of the shipped one.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def tell(text: str, **how: Any) -> None:
    """Print probabilities, expected length and strongest features of one prompt. TEXT `-` reads the standard input."""
    from .classify_verbs import tell

    sys.exit(tell(sys.stdin.read() if text == "-" else text, **how))


@classify.command()
@click.option("--own", type=FOLDER, default=Path("data"), show_default=True, help="The repository's data: seeds and templates.")
@click.option("--data", "files", type=FILE, multiple=True, help="Labelled prompts, JSONL, maybe .gz; may be given again.")
@click.option(
    "--log", "logs", type=click.Path(exists=True, path_type=Path), multiple=True, help="A replay log with signals; may be given again."
)
@click.option("--weights", "path", type=FILE, help="The classifier that read the log's traffic, instead of the shipped one.")
@click.option("--add", multiple=True, metavar="NAME=TASK:SHARE,…", help="A class of its own, and the tasks that it is made of.")
@click.option("--merge", multiple=True, metavar="NAME=TASK,TASK", help="A class that takes the place of several.")
@click.option("--out", type=FILE, required=True, help="The weights file to write.")
@click.option("--confusion", type=FILE, help="Where to write what the simulator draws from.")
@click.option("--size", type=click.IntRange(100, 100_000), default=24_000, show_default=True, help="Features that are kept.")
@click.option("--folds", type=click.IntRange(2, 20), default=2, show_default=True, help="Parts of the rows, each held out once.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the templates' children, the folds and the fit.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def train(**how: Any) -> None:
    """Train on the repository's data and your own, and print how well held-out rows are told."""
    from .classify_verbs import train

    sys.exit(train(**how))


@classify.command()
@click.option("--data", "files", type=FILE, multiple=True, required=True, help="Labelled prompts to test on, JSONL, maybe .gz.")
@click.option("--weights", "path", type=FILE, help="A weights file, instead of the shipped one.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def report(**how: Any) -> None:
    """Print how well labelled prompts are told: by source, class, language and turn, with calibration and lengths."""
    from .classify_verbs import report

    sys.exit(report(**how))
