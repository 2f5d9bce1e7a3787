"""Private set + captions -> the adapter that turns the base generator into the adapted one."""

from kedro.pipeline import Node, Pipeline

from tckr.pipelines.generator_adaptation.nodes import (
    adapt_generator,
    draw_adaptation_curve,
    draw_adaptation_sheet,
)
from tckr.pipelines.stage import as_stage


def create_pipeline() -> Pipeline:
    """images, captions -> adapter, adaptation_losses, adaptation_progress -> adaptation_curve, adaptation_sheet."""
    return as_stage(
        "generator_adaptation",
        [
            Node(
                adapt_generator,
                inputs=[
                    "images",
                    "captions",
                    "params:generator_adaptation",
                    "params:seed",
                ],
                outputs=["adapter", "adaptation_losses", "adaptation_progress"],
                name="adapt_generator",
            ),
            Node(
                draw_adaptation_curve,
                inputs="adaptation_losses",
                outputs="adaptation_curve",
                name="draw_adaptation_curve",
            ),
            Node(
                draw_adaptation_sheet,
                inputs=[
                    "images",
                    "captions",
                    "adapter",
                    "params:generator_adaptation",
                    "params:seed",
                ],
                outputs="adaptation_sheet",
                name="draw_adaptation_sheet",
            ),
        ],
    )
