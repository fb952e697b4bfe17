"""Tiny random models of transformers' real classes, saved as folders."""

import torch

VOCABULARY = (
    "<pad> </s> <s> <unk> <image> a an the red blue green yellow purple orange pink brown white "
    "black gray circle square ring star heart cross diamond hexagon crescent triangle is there "
    "are how many what color Does this figure show Please answer yes or no Yes No one two three "
    "four photo of Answer with in word image picture left right above below background ? . , : "
    "user assistant"
)
VISION = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_attention_heads": 2,
    "num_hidden_layers": 2,
    "image_size": 32,
    "patch_size": 8,
}
TEXT = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_attention_heads": 2,
    "num_hidden_layers": 2,
    "vocab_size": 128,
}
TEMPLATE = (
    "{% for message in messages %}user : {% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image> {% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endfor %}{% if add_generation_prompt %} assistant : {% endif %}"
)


def tokenizer(ending=False, **special):
    """Words apart, each a token; what it does not know is <unk>; perhaps </s> at the end."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    known = {word: k for k, word in enumerate(dict.fromkeys(VOCABULARY.split()))}
    made = Tokenizer(models.WordLevel(known, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    if ending:
        made.post_processor = processors.TemplateProcessing(
            single="$A </s>", special_tokens=[("</s>", known["</s>"])]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        model_max_length=64,
        **special,
    )


def image_processor(kind="CLIPImageProcessorPil", **more):
    import transformers

    size = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    return getattr(transformers, kind)(**{**size, **more})


def llava(folder, seed=0):
    """A decoder that reads image tokens among words, with a chat template."""
    from transformers import (
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
    )

    torch.manual_seed(seed)
    words = tokenizer(additional_special_tokens=["<image>"])
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**VISION),
        text_config=LlamaConfig(**TEXT, initializer_range=0.5),
        image_token_index=words.convert_tokens_to_ids("<image>"),
        vision_feature_layer=-1,
    )
    LlavaForConditionalGeneration(config).eval().save_pretrained(folder)
    LlavaProcessor(
        image_processor=image_processor(),
        tokenizer=words,
        patch_size=8,
        vision_feature_select_strategy="default",
        chat_template=TEMPLATE,
        num_additional_image_tokens=1,
    ).save_pretrained(folder)
    return folder


def instructblip(folder, seed=0):
    """An encoder and a decoder (T5) after a Q-Former, without a chat template."""
    from transformers import (
        InstructBlipConfig,
        InstructBlipForConditionalGeneration,
        InstructBlipProcessor,
        T5Config,
    )

    torch.manual_seed(seed)
    words = tokenizer(additional_special_tokens=["<image>"])
    text = T5Config(
        vocab_size=128,
        d_model=16,
        d_kv=8,
        d_ff=32,
        num_layers=2,
        num_heads=2,
        decoder_start_token_id=words.pad_token_id,
        pad_token_id=words.pad_token_id,
        initializer_factor=1.0,
    )
    config = InstructBlipConfig(
        vision_config={**VISION, "initializer_range": 0.2},
        qformer_config={
            **TEXT,
            "initializer_range": 0.2,
            "encoder_hidden_size": 16,
            "max_position_embeddings": 64,
        },
        text_config=text.to_dict(),
        num_query_tokens=4,
        image_token_index=words.convert_tokens_to_ids("<image>"),
    )
    InstructBlipForConditionalGeneration(config).eval().save_pretrained(folder)
    InstructBlipProcessor(
        image_processor=image_processor(
            "BlipImageProcessorPil", size={"height": 32, "width": 32}, do_center_crop=False
        ),
        tokenizer=words,
        qformer_tokenizer=tokenizer(),
        num_query_tokens=4,
    ).save_pretrained(folder)
    return folder


def owlvit(folder, seed=0):
    from transformers import OwlViTConfig, OwlViTForObjectDetection, OwlViTProcessor

    torch.manual_seed(seed)
    config = OwlViTConfig(
        text_config={**TEXT, "max_position_embeddings": 16, "bos_token_id": 0, "eos_token_id": 1},
        vision_config=VISION,
        projection_dim=16,
    )
    model = OwlViTForObjectDetection(config).eval()
    for parameter in model.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    model.save_pretrained(folder)
    words = tokenizer(ending=True)
    words.model_max_length = 16
    OwlViTProcessor(
        image_processor=image_processor(
            "OwlViTImageProcessorPil",
            size={"height": 32, "width": 32},
            crop_size={"height": 32, "width": 32},
        ),
        tokenizer=words,
    ).save_pretrained(folder)
    return folder


def clip(folder, seed=0):
    from transformers import CLIPConfig, CLIPModel, CLIPProcessor

    torch.manual_seed(seed)
    text = {**TEXT, "max_position_embeddings": 24, "bos_token_id": 0, "eos_token_id": 1}
    config = CLIPConfig(text_config=text, vision_config=VISION, projection_dim=8)
    CLIPModel(config).eval().save_pretrained(folder)
    words = tokenizer(ending=True)
    words.model_max_length = 24
    CLIPProcessor(image_processor=image_processor(), tokenizer=words).save_pretrained(folder)
    return folder


def grounding_dino(folder, seed=0):
    from transformers import (
        BertConfig,
        GroundingDinoConfig,
        GroundingDinoForObjectDetection,
        GroundingDinoImageProcessorPil,
        GroundingDinoProcessor,
        SwinConfig,
    )

    torch.manual_seed(seed)
    config = GroundingDinoConfig(
        backbone_config=SwinConfig(
            image_size=64,
            patch_size=4,
            embed_dim=8,
            depths=[1, 1, 1],
            num_heads=[1, 1, 2],
            window_size=4,
            out_features=["stage2", "stage3"],
        ),
        text_config=BertConfig(**TEXT, max_position_embeddings=64),
        d_model=32,
        encoder_layers=1,
        decoder_layers=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        num_queries=10,
        num_feature_levels=2,
        max_text_len=16,
        encoder_n_points=2,
        decoder_n_points=2,
    )
    GroundingDinoForObjectDetection(config).eval().save_pretrained(folder)
    GroundingDinoProcessor(
        image_processor=GroundingDinoImageProcessorPil(
            size={"shortest_edge": 64, "longest_edge": 96}
        ),
        tokenizer=tokenizer(),
    ).save_pretrained(folder)
    return folder
