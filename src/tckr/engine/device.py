"""Where the heavy nodes compute."""


def best() -> str:
    """Return "cuda" if this machine has such a device, else "cpu"; on the former, ask for repeatable convolutions."""
    import torch

    if not torch.cuda.is_available():
        return "cpu"
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False
    return "cuda"
