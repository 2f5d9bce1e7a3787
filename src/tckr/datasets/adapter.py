"""The generator's adapter as a folder that diffusers loads."""

from pathlib import Path
from typing import Any

from tckr.datasets.folder import FolderDataset


class AdapterDataset(FolderDataset[Any]):
    """A `tckr.diffusion.adapter.Adapter`: LoRA weights as safetensors, which diffusers loads from the folder.

    Or a `tckr.diffusion.update.DenoiserUpdate`, of every weight, as `denoiser_update.safetensors`.
    Where adapters were kept on the way of the training, a `tckr.diffusion.snapshots.Snapshots`: a file for each.

    In the catalog:

    ```yaml
    adapter:
      type: tckr.datasets.adapter.AdapterDataset
      filepath: data/06_models/adapter
      versioned: true
    ```

    In Python:

    ```python
    AdapterDataset(filepath="data/06_models/adapter").save(adapter)
    StableDiffusionPipeline.from_pretrained(...).load_lora_weights("data/06_models/adapter")
    ```
    """

    def read(self, path: Path) -> Any:
        """Load the weights on the CPU."""
        from tckr.diffusion.stored import load_trained

        return load_trained(path)

    def write(self, data: Any, path: Path) -> None:
        """Write the weights."""
        data.save(path)
