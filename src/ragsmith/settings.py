"""What Kedro is told about this project."""

from ragsmith.hooks import ProjectHooks, TrackingHooks
from ragsmith.session import RagsmithSession
from ragsmith.tracking import disabled_plugins, tracking_wanted

SESSION_CLASS = RagsmithSession
HOOKS = (ProjectHooks(), *((TrackingHooks(),) if tracking_wanted() else ()))
DISABLE_HOOKS_FOR_PLUGINS = disabled_plugins()
CONFIG_LOADER_ARGS = {
    "base_env": "base",
    "default_run_env": "local",
    # By default one key in an environment's file replaces the whole top-level entry of the base. Not so here; but the
    # catalog stays as Kedro has it, for an entry whose type changed must not keep the old type's arguments.
    "merge_strategy": {"parameters": "soft", "globals": "soft"},
    # Kedro reads no other files by itself: `config_loader["ray"]` is the cluster's address and resources.
    "config_patterns": {"ray": ["ray*", "ray*/**"]},
}
