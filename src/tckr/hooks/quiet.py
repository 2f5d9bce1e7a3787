"""Keep the libraries' own bars and remarks out of a run's log, and the libraries off the network; imported before any."""

import os

DEFAULTS = {
    "TQDM_DISABLE": "1",  # bars of diffusers and transformers; ours say explicitly when they are wanted
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "DIFFUSERS_VERBOSITY": "error",
    "TOKENIZERS_PARALLELISM": "false",  # else it warns whenever a process is started after it was used
    "GIT_PYTHON_REFRESH": "quiet",  # MLflow's, where there is no git
    # Nobody is told that somebody runs this.
    "DO_NOT_TRACK": "true",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_UPDATE_DOWNLOAD_COUNTS": "false",
    "KEDRO_DISABLE_TELEMETRY": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # A server that does not answer is asked again later (tckr/hooks/outbox.py); MLflow's own tries take minutes.
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
}
for name, value in DEFAULTS.items():
    os.environ.setdefault(name, value)
