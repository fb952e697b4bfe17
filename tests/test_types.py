"""Text embeddings: zeroed, dropped and stacked as the unconditional branch needs them."""

import torch

from open_imagen.types import TextEmbedding, stack_texts

TEXT = TextEmbedding(
    torch.arange(12.0).reshape(2, 3, 2), torch.tensor([[True, True, True], [True, False, False]])
)


def test_null_text_is_one_zero_token_whatever_the_batch():
    null = TEXT.null()
    assert not null.tokens.any()
    assert null.mask.tolist() == [[True, False, False]] * 2


def test_dropping_replaces_whole_captions():
    dropped = TEXT.dropped(torch.tensor([True, False]))
    assert not dropped.tokens[0].any()
    assert dropped.mask[0].tolist() == [True, False, False]
    assert torch.equal(dropped.tokens[1], TEXT.tokens[1])
    assert torch.equal(dropped.mask[1], TEXT.mask[1])


def test_stacking_pads_to_the_longest():
    short = TextEmbedding(torch.ones(1, 1, 2), torch.ones(1, 1, dtype=torch.bool))
    both = stack_texts([TEXT, short])
    assert both.tokens.shape == (3, 3, 2)
    assert both.mask[2].tolist() == [True, False, False]
    assert not both.tokens[2, 1:].any()


def test_padding_to_a_multiple_adds_masked_zeros():
    padded = TEXT.padded(4)
    assert padded.tokens.shape == (2, 4, 2)
    assert torch.equal(padded.tokens[:, :3], TEXT.tokens)
    assert not padded.tokens[:, 3].any()
    assert padded.mask.tolist() == [[True, True, True, False], [True, False, False, False]]
    assert TEXT.padded(3).tokens.shape == (2, 3, 2)


def test_the_mean_is_of_the_tokens_that_are_there():
    assert TEXT.mean().tolist() == [[2.0, 3.0], [6.0, 7.0]]
    assert torch.equal(TEXT.padded(8).mean(), TEXT.mean())


def test_the_mean_square_is_of_tokens_that_are_there():
    tokens = torch.tensor([[[1.0, 3.0], [0.0, 2.0]], [[2.0, 4.0], [7.0, 7.0]]])
    text = TextEmbedding(tokens, torch.tensor([[True, True], [True, False]]))
    assert text.mean_square().tolist() == [3.5, 10.0]  # (1 + 9 + 0 + 4) / 4, (4 + 16) / 2
