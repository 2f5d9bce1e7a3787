"""Where the heavy nodes compute."""


def best() -> str:
    """Return "cuda" if this machine has such a device, else "cpu"."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
