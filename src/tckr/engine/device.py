"""The device for heavy computation."""


def best() -> str:
    """Return "cuda" if this machine has such a device, else "cpu"; on "cuda", select deterministic convolutions."""
    import torch

    if not torch.cuda.is_available():
        return "cpu"
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False
    return "cuda"
