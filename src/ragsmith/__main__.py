"""`python -m ragsmith`: `kedro run` of the installed package, from any folder.

Data lies below the folder that it is started in; `--conf-source` says where the configuration lies.
"""

# And not `find_run_command`: that would look in our cli.py, which holds the project's own commands alone.
from kedro.framework.cli.project import run
from kedro.framework.project import configure_project


def main() -> None:
    """Run the command line."""
    configure_project("ragsmith")
    run()


if __name__ == "__main__":
    main()
