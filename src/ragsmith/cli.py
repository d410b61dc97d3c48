"""Commands that the project adds to Kedro's."""

from pathlib import Path
from typing import Any

import click


@click.group(name="ragsmith")
def cli() -> None:
    """Commands of ragsmith."""


@cli.command()
@click.argument("question")
@click.option("--env", "-e", default=None, help="Environment whose bundle is asked (default: base and local).")
@click.option("--bundle", type=click.Path(path_type=Path), default=None, help="Another bundle folder.")
@click.option("-k", "shown", type=click.IntRange(1, 100), default=5, show_default=True, help="Passages to show.")
@click.option(
    "--mode", type=click.Choice(["dense", "bm25", "hybrid"]), default=None, help="Default: the bundle's own."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead.")
def ask(question: str, env: str | None, bundle: Path | None, shown: int, mode: str | None, as_json: bool) -> None:
    """Answer QUESTION from the bundle of the last run: answer, the passage it comes from, scores."""
    from ragsmith.ask import print_answer

    print_answer(question, bundle or default_bundle(env), shown, mode, as_json)


def default_bundle(env: str | None) -> Path:
    """The bundle of an environment, as the catalog has it."""
    from kedro.framework.startup import bootstrap_project
    from kedro.utils import find_kedro_project

    from ragsmith.session import RagsmithSession

    project = find_kedro_project(Path.cwd())
    if project is None:
        raise click.ClickException("This is not a Kedro project. Change into it, or give --bundle FOLDER.")
    bootstrap_project(project)
    session: Any = RagsmithSession.create(project_path=project, env=env, save_on_close=False)
    catalog = session.load_context().catalog
    return Path(str(catalog.get("bundle")._describe()["filepath"]))
