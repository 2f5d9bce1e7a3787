"""Public images and sentences -> four foundation models in miniature. They never see a private image."""

from kedro.pipeline import Node, Pipeline

from tckr.pipelines.foundation import nodes
from tckr.pipelines.stage import as_stage


def create_pipeline() -> Pipeline:
    """public sources -> public_images, public_texts -> tokenizer -> the four miniatures and their losses."""
    options, seed = "params:foundation", "params:seed"
    return as_stage(
        "foundation",
        [
            Node(nodes.collect_public, options, "public_sources", name="collect_public"),
            Node(
                nodes.compose_public,
                ["public_sources", options, seed],
                ["public_images", "public_texts"],
                name="compose_public",
            ),
            Node(
                nodes.make_tokenizer,
                ["public_texts", options],
                "public_tokenizer",
                name="make_tokenizer",
            ),
            Node(nodes.word, ["public_texts", "public_tokenizer"], "public_words", name="word"),
            Node(
                nodes.make_generator,
                ["public_images", "public_words", "public_tokenizer", options, seed],
                ["generator_miniature", "generator_losses"],
                name="make_generator",
            ),
            Node(
                nodes.make_captioner,
                ["public_images", "public_texts", "public_tokenizer", options, seed],
                ["captioner_miniature", "captioner_losses"],
                name="make_captioner",
            ),
            Node(
                nodes.make_clip,
                ["public_images", "public_words", "public_tokenizer", options, seed],
                ["clip_miniature", "clip_losses"],
                name="make_clip",
            ),
            Node(
                nodes.make_masked,
                ["public_texts", options, seed],
                ["masked_miniature", "masked_losses"],
                name="make_masked",
            ),
            Node(
                nodes.gather_losses,
                [
                    options,
                    seed,
                    "generator_losses",
                    "captioner_losses",
                    "clip_losses",
                    "masked_losses",
                ],
                "foundation_losses",
                name="gather_losses",
            ),
        ],
    )
