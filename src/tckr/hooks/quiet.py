"""Keep the libraries' own bars and remarks out of a run's log; imported before any of them."""

import os

DEFAULTS = {
    "TQDM_DISABLE": "1",  # bars of diffusers and transformers; ours say explicitly when they are wanted
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "DIFFUSERS_VERBOSITY": "error",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",  # else it warns whenever a process is started after it was used
}
for name, value in DEFAULTS.items():
    os.environ.setdefault(name, value)
