"""The generated pages of docs/: `python -m bestserve.proxy.docs` writes them anew, `--check` fails when one is out of step."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click

from .cli import main
from .config_docs import markdown as config_page
from .metrics import TABLE

DOCS = Path("docs")


def cli_page() -> str:
    """docs/cli.md: the help of every verb."""
    parts = ["# Command line\n\nPrinted from the program by `make docs`.\n"]
    parts += [f"## {name}\n\n```text\n{text.rstrip()}\n```\n" for name, text in _helps()]
    return "\n".join(parts)


def metrics_page() -> str:
    """docs/metrics.md: a line for each metric."""
    rows = [
        f"| `{name}` | {kind} | {', '.join(f'`{label}`' for label in labels) or '–'} | {text} |"
        for name, (kind, labels, text) in TABLE.items()
    ]
    head = (
        "# Metrics\n\nAt `GET /metrics`, for Prometheus. Labels take their values from the config, never from a request, so the number of"
        " series is bounded. Printed from the program by `make docs`.\n\n"
        "| metric | kind | labels | what it is |\n| --- | --- | --- | --- |\n"
    )
    return head + "\n".join(rows) + "\n"


PAGES: dict[str, Callable[[], str]] = {"cli.md": cli_page, "config.md": config_page, "metrics.md": metrics_page}


def run(check: bool) -> int:
    """Write the pages, or say which are out of step. Returns the exit code."""
    stale = [name for name, page in PAGES.items() if not (DOCS / name).is_file() or (DOCS / name).read_text(encoding="utf-8") != page()]
    if check:
        for name in stale:
            click.echo(f"{DOCS / name} is out of step: run `make docs`", err=True)
        return 1 if stale else 0
    for name in stale:
        (DOCS / name).write_text(PAGES[name](), encoding="utf-8")
        click.echo(f"wrote {DOCS / name}")
    return 0


def _helps() -> Iterator[tuple[str, str]]:
    context = click.Context(main, info_name="bestserve", max_content_width=100, terminal_width=100)
    yield "bestserve", main.get_help(context)
    yield from _verbs(main, context)


def _verbs(group: click.Group, above: click.Context) -> Iterator[tuple[str, str]]:
    for name, command in sorted(group.commands.items()):
        context = click.Context(command, info_name=name, parent=above, terminal_width=100)
        yield context.command_path, command.get_help(context)
        if isinstance(command, click.Group):
            yield from _verbs(command, context)


if __name__ == "__main__":
    sys.exit(run("--check" in sys.argv[1:]))
