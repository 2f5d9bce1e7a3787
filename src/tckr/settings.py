"""What Kedro asks of a project: https://docs.kedro.org/en/stable/configure/."""

from tckr.configuration import ConfigLoader
from tckr.hooks import (
    Checks,
    Clock,
    Credentials,
    Engine,
    Lineage,
    Private,
    Session,
    Summary,
    TakenUp,
    Tracking,
    Wiring,
)

CONFIG_LOADER_CLASS = ConfigLoader
CONFIG_LOADER_ARGS = {
    "base_env": "base",
    # policy.yml holds the parameter group `policy`.
    "config_patterns": {
        "parameters": ["parameters*", "parameters*/**", "**/parameters*", "policy*", "policy*/**"]
    },
    "default_run_env": "local",
    # An environment states its differences only; without this it would erase its siblings.
    "merge_strategy": {"parameters": "soft", "globals": "soft"},
}

# Hooks are called in the reverse order of this tuple: lineage first, then checks, tracking, the summary,
# and the engine, which connects to a cluster once all is checked.
_CLOCK, _LINEAGE = Clock(), Lineage()
_SUMMARY, _TRACKING = Summary(_CLOCK, _LINEAGE), Tracking(_CLOCK, _LINEAGE)
HOOKS = (
    Engine(),
    TakenUp(_LINEAGE, _TRACKING, _SUMMARY),
    _SUMMARY,
    _TRACKING,
    _CLOCK,
    Checks(),
    _LINEAGE,
    Private(),
    Credentials(),
    Wiring(),
)
SESSION_CLASS = Session
# `Tracking` reads this plugin's configuration in its place, and logs what it leaves out.
DISABLE_HOOKS_FOR_PLUGINS = ("kedro-mlflow", "kedro_mlflow", "kedro-telemetry")
