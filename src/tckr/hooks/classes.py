"""See that an audit can be made of the classes of the private set, as soon as ingestion has counted them."""

from typing import TYPE_CHECKING, Any

from kedro.io import CatalogProtocol
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node

from tckr.audit.options import AuditOptions

if TYPE_CHECKING:
    import pandas as pd

DRAW, USE = "draw_memberships", ("score_shadows", "score_arm_shadows")  # nodes of the audit
AUDIT, SEED, WANTED = "params:privacy_audit", "params:seed", "wanted"


class ClassCheck:
    """Checks once that no shadow of a run will train without a class; nothing in a run without shadows.

    >>> check = ClassCheck(Pipeline([]), catalog=None)
    >>> check.pending
    False
    """

    def __init__(self, pipeline: Pipeline, catalog: CatalogProtocol | None) -> None:
        """Args: pipeline: of the run. catalog: holds its parameters."""
        self._catalog = catalog
        self.pending = catalog is not None and _draws_shadows(pipeline, catalog)

    def check(self, images: "pd.DataFrame") -> None:
        """Check the private set.

        Raises:
            UserError: see `tckr.audit.classes.check_classes`.
        """
        if not self.pending or self._catalog is None:
            return
        from tckr.audit.classes import check_classes

        self.pending = False
        options: AuditOptions = self._catalog.load(AUDIT)
        check_classes(images, options, int(self._catalog.load(SEED)))


def _draws_shadows(pipeline: Pipeline, catalog: CatalogProtocol) -> bool:
    nodes = {_name(node): node for node in pipeline.nodes}
    if DRAW not in nodes or AUDIT not in pipeline.inputs():
        return False
    used = [nodes[name] for name in USE if name in nodes]
    return any(_wanted(node, catalog) for node in used)


def _wanted(node: Node, catalog: CatalogProtocol) -> bool:
    """Whether a node will train shadows: the sweep asks a parameter."""
    inputs: Any = node._inputs
    given = inputs.get(WANTED) if isinstance(inputs, dict) else None
    return given is None or bool(catalog.load(given))


def _name(node: Node) -> str:
    return str(node.name).rpartition(".")[2]
