"""One folder a stage: `pipeline.py` wires thin `nodes.py` to the domain packages."""
