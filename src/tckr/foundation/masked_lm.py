"""Train the masked language model miniature: a BERT that fills masked words of the public sentences.

Devlin et al. 2019 (arXiv 1810.04805) with whole-word masking. Because the model is used only to fill masks, every
chosen token becomes the mask, none a random or unchanged one, and up to half of the words are masked at once (Wettig
et al. 2023, arXiv 2202.08005, find both at least as good as the original's 80/10/10 of 15 %).
"""

import string
from collections.abc import Iterable

import pandas as pd
import torch
from pydantic import Field
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from torch import Tensor
from torch.nn import functional
from transformers import BertConfig, BertForMaskedLM, BertTokenizer

from tckr.engine.checkpoint import Checkpoint, data_identity
from tckr.options import Options, Schedule
from tckr.training.loop import minimize

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
CONTINUES = "##"  # how WordPiece marks a token that continues a word
LEAST_MASKED, MOST_MASKED = 0.15, 0.5  # fraction of the words; drawn for each sentence


class MaskedShape(Options):
    """Sizes of the masked language model miniature."""

    vocabulary: int = Field(4096, ge=200, description="tokens")
    max_length: int = Field(64, ge=8, le=512, description="longest sentence, tokens")
    width: int = Field(160, ge=8)
    layers: int = Field(4, ge=1)
    heads: int = Field(4, ge=1)


class MaskedRecipe(Options):
    """Shape and schedule of the masked language model."""

    shape: MaskedShape
    schedule: Schedule


def train_masked_tokenizer(sentences: Iterable[str], shape: MaskedShape) -> BertTokenizer:
    """Train a WordPiece tokenizer with BERT's rules, lower case; it can spell any word of ASCII letters.

    The same sentences give the same tokenizer.

    >>> train_masked_tokenizer(["a small bag"] * 9, MaskedShape(vocabulary=250)).tokenize("Small bag")
    ['small', 'bag']
    """
    sentences = list(sentences)
    coder = Tokenizer(models.WordPiece(unk_token=SPECIAL[1]))
    coder.normalizer = normalizers.BertNormalizer(lowercase=True)
    coder.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    seen = set().union(*map(coder.normalizer.normalize_str, sentences))
    known = string.ascii_lowercase + string.digits + string.punctuation
    letters = sorted({letter for letter in {*seen, *known} if not letter.isspace()})
    trainer = trainers.WordPieceTrainer(
        vocab_size=shape.vocabulary,
        # Letters that continue a word are listed too: the trainer would number them in random order.
        special_tokens=[*SPECIAL, *(CONTINUES + letter for letter in letters)],
        initial_alphabet=letters,
        show_progress=False,
    )
    coder.train_from_iterator(sentences, trainer)
    return BertTokenizer(vocab=coder.get_vocab(), model_max_length=shape.max_length)


def build_masked(tokenizer: BertTokenizer, shape: MaskedShape) -> BertForMaskedLM:
    """Return an untrained BERT of the given shape with `tokenizer`'s vocabulary, without dropout."""
    return BertForMaskedLM(
        BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=shape.width,
            num_hidden_layers=shape.layers,
            num_attention_heads=shape.heads,
            intermediate_size=4 * shape.width,
            max_position_embeddings=shape.max_length,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


class WordMasks:
    """Choose whole words of a batch at random, on the device and without synchronising with it."""

    def __init__(self, tokenizer: BertTokenizer, device: str) -> None:
        names = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
        self.continues = torch.tensor([name.startswith(CONTINUES) for name in names], device=device)
        self.special = torch.tensor([name in SPECIAL for name in names], device=device)

    def __call__(self, tokens: Tensor) -> Tensor:
        """Return a mask, bool (N, L), of 15 to 50 % of each sentence's words, at least one; never a special token.

        Args:
            tokens: int64 (N, L).
        """
        word = (~self.continues[tokens]).cumsum(1) - 1
        draw = torch.rand(tokens.shape, device=tokens.device).gather(1, word.clamp(min=0))
        draw = draw.masked_fill(self.special[tokens], 2.0)
        share = LEAST_MASKED + (MOST_MASKED - LEAST_MASKED) * torch.rand(
            len(tokens), 1, device=tokens.device
        )
        return (draw <= torch.maximum(share, draw.amin(1, keepdim=True))) & (draw < 2)


def train_masked(
    tokens: Tensor,
    tokenizer: BertTokenizer,
    recipe: MaskedRecipe,
    device: str,
    seed: int,
    checkpoint: Checkpoint | None = None,
) -> tuple[BertForMaskedLM, pd.DataFrame]:
    """Train a masked language model from scratch; the loss is that of the masked tokens alone.

    Args:
        tokens: ids (N, L), padded; each step draws sentences and masks.
        checkpoint: where unfinished training is saved, and resumed from.

    Returns:
        The model (float32, on the CPU) and its loss curve (nats per masked token).

    Raises:
        Paused: the checkpoint's deadline has passed.
    """
    torch.manual_seed(seed)
    identity = data_identity(recipe.model_dump(), tokens)
    model = build_masked(tokenizer, recipe.shape).to(device).train()
    masks, tokens = WordMasks(tokenizer, device), tokens.to(device)
    length = tokens.shape[1]

    def loss() -> Tensor:
        chosen = torch.randint(len(tokens), (recipe.schedule.batch_size,), device=device)
        sentence = tokens[chosen].long()
        masked = masks(sentence)
        # In four dimensions: for two, transformers would read the values, which a CUDA graph cannot.
        seen = (sentence != tokenizer.pad_token_id)[:, None, None].expand(-1, 1, length, -1)
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            logits = model(
                input_ids=sentence.masked_fill(masked, tokenizer.mask_token_id), attention_mask=seen
            ).logits
        target = sentence.masked_fill(~masked, -100)
        return functional.cross_entropy(logits.float().flatten(0, 1), target.flatten())

    losses = minimize(
        list(model.parameters()), loss, recipe.schedule, "masked language model", capture=True,
        checkpoint=checkpoint, identity=identity,
    )  # fmt: skip
    return model.float().cpu().eval(), losses
