"""Commands that the project adds to Kedro's."""

from pathlib import Path
from typing import Any

import click


class WrongUsage(click.UsageError):
    """A command line that cannot be understood, with exit status 1."""

    exit_code = 1


class OneForWrongUsage(click.Command):
    """A command whose exit status for wrong usage is 1 and not click's 2, which means something else here."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            raise WrongUsage(error.format_message(), ctx) from error


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


@cli.command(cls=OneForWrongUsage)
@click.argument("run_a", required=False)
@click.argument("run_b", default="latest")
@click.option("--env", "-e", default=None, help="Environment whose versions are meant (default: base and local).")
@click.option(
    "--metric", "metrics", multiple=True, help="Compare this one alone: em, ndcg@10, mrr@5_tuned. Repeatable."
)
@click.option(
    "--fail-if-worse", multiple=True, metavar="METRIC", help="Exit status 2 if RUN_B is significantly worse in it."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead, with every question.")
@click.option("--html", type=click.Path(path_type=Path, dir_okay=False), default=None, help="Also write a page.")
@click.option("--limit", type=click.IntRange(0), default=10, show_default=True, help="Questions and settings to show.")
@click.option("--samples", type=click.IntRange(100, 1_000_000), default=10_000, show_default=True, help="Resamples.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the resamples.")
def compare(run_a: str | None, run_b: str, env: str | None, as_json: bool, **options: Any) -> None:
    """Say what RUN_B does better or worse than RUN_A (default of RUN_B: latest); without any, list the versions.

    A run is `latest`, `previous`, a version's name, its beginning or its end, or a path: a folder with metrics.json
    and per_query.parquet, a data folder, a project.
    """
    from ragsmith.compare import CompareSettings, print_comparison, print_versions

    history = catalog_path(env, "history")  # outside of a project, runs are named by their paths
    if run_a is None:
        print_versions(history, as_json)
        return
    settings = CompareSettings(as_json=as_json, **options)
    click.get_current_context().exit(print_comparison(run_a, run_b, history, settings))


def default_bundle(env: str | None) -> Path:
    """The bundle of an environment, as the catalog has it."""
    folder = catalog_path(env, "bundle")
    if folder is None:
        raise click.ClickException("This is not a Kedro project. Change into it, or give --bundle FOLDER.")
    return folder


def catalog_path(env: str | None, name: str) -> Path | None:
    """The path of a catalog entry in an environment; None outside of a project."""
    from kedro.framework.startup import bootstrap_project
    from kedro.utils import find_kedro_project

    from ragsmith.hooks import path_of
    from ragsmith.session import RagsmithSession

    project = find_kedro_project(Path.cwd())
    if project is None:
        return None
    bootstrap_project(project)
    session: Any = RagsmithSession.create(project_path=project, env=env, save_on_close=False)
    return path_of(session.load_context().catalog, name)
