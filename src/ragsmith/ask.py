"""`kedro ask`: a question to the bundle, answered on the terminal."""

import json
import logging
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click


def print_answer(question: str, bundle: Path, shown: int, mode: Any, as_json: bool) -> None:
    """Ask the bundle and print what it says.

    Args:
        question: in plain words.
        bundle: a folder that the serving pipeline made.
        shown: passages to list.
        mode: of the search; None takes the bundle's own.
        as_json: print one JSON object.
    Raises:
        click.ClickException: the bundle or the question cannot be used; the message says why.
    """
    # Nothing of the models' loading is of interest here, and nothing is to be fetched.
    logging.getLogger("sentence_transformers").setLevel(logging.ERROR)
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    from ragsmith.serve.engine import Engine

    try:
        engine = Engine.load(bundle)
        answer = engine.ask(question, mode)
        hits = engine.search(question, shown, mode)
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        click.echo(json.dumps({**asdict(answer), "hits": [asdict(hit) for hit in hits]}, indent=2))
        return
    if not answer.hits:
        click.echo("Nothing was found.")
        return
    if answer.hit is None:
        click.echo("The reader gives no answer from what was found.")
    else:
        click.secho(printable(answer.text), bold=True)
        if answer.sentence:
            click.echo(printable(answer.sentence))
        source = "from" if answer.quoted else "written, not quoted; nearest passage"
        title = printable(answer.hit.title)
        click.echo(f"\n{source}: {title} (rank {answer.hit.rank}), reader score {answer.score:.2f}")
        click.echo(indented(answer.hit.text))
    click.echo("\npassages found:")
    for hit in hits:
        click.echo(f"  {hit.rank}. {hit.score:.3f}  {printable(hit.title)}")


def printable(text: str) -> str:
    """The text without control characters: documents are not to steer the terminal."""
    return "".join(letter if letter.isprintable() or letter in "\n\t" else "�" for letter in text)


def indented(text: str, lines: int = 8) -> str:
    """The first lines, set off."""
    kept = printable(text).splitlines()
    return "\n".join(f"  | {line}" for line in [*kept[:lines], *(["…"] if len(kept) > lines else [])])
