"""`python -m ragsmith`: `kedro run` of the installed package, from any folder.

Data lies below the folder that it is started in; `--conf-source` says where the configuration lies.
"""

from kedro.framework.cli.utils import find_run_command
from kedro.framework.project import configure_project


def main() -> None:
    """Run the command line."""
    configure_project("ragsmith")
    find_run_command("ragsmith")()


if __name__ == "__main__":
    main()
