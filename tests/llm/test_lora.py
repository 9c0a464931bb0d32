"""Adapters learn and nothing else does; they come back bit for bit, only whole, and only to the model they are of."""

import copy
import hashlib
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys

import pytest
import torch
import transformers
from safetensors.torch import load_file
from torch.nn.functional import cross_entropy

from recbole_llm.errors import ArtifactError, BackendError, SettingError
from recbole_llm.llm.adapters import restore, save
from recbole_llm.llm.backend import Request
from recbole_llm.llm.layers import find_layers
from recbole_llm.llm.load import load
from recbole_llm.llm.local import LocalBackend
from recbole_llm.llm.lora import Lora, attach, merge, trained
from recbole_llm.text.location import locate
from recbole_llm.text.manifest import content_key

SENTENCES = [
    "Toy Story was seen by Tim and Lily.",
    "Heat was seen by Tom and his dog.",
    "Jumanji was seen by Ben and Lucy.",
]
LLAMA_LIKE = {
    "vocab_size": 40,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 4,
    "max_position_embeddings": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
BERT_LIKE = {
    key: value for key, value in LLAMA_LIKE.items() if key not in ("head_dim", "num_key_value_heads")
}
GPT2 = {"vocab_size": 40, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64}
GPT2 |= {"bos_token_id": 1, "eos_token_id": 2}
T5 = {"vocab_size": 40, "d_model": 16, "d_kv": 4, "d_ff": 24, "num_layers": 2, "num_heads": 4}
T5 |= {"decoder_start_token_id": 0}
GEMMA4 = LLAMA_LIKE | {"num_hidden_layers": 4, "num_kv_shared_layers": 2, "vocab_size_per_layer_input": 40}
GEMMA4 |= {"layer_types": ["sliding_attention", "full_attention"] * 2, "hidden_size_per_layer_input": 4}
OPT = {"vocab_size": 40, "hidden_size": 16, "ffn_dim": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
OPT |= {"word_embed_proj_dim": 16, "max_position_embeddings": 64}
BART = {"vocab_size": 40, "d_model": 16, "encoder_layers": 2, "decoder_layers": 2, "encoder_ffn_dim": 16}
BART |= {"decoder_ffn_dim": 16, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
BART |= {"max_position_embeddings": 64, "forced_eos_token_id": None}
Q_K_V_O = {"q_proj", "k_proj", "v_proj", "o_proj"}
# class of the model: its configuration, the attention projections, how many layers they are
MODELS = {
    "LlamaForCausalLM": (LLAMA_LIKE, Q_K_V_O, 8),
    "MistralForCausalLM": (LLAMA_LIKE, Q_K_V_O, 8),
    "MixtralForCausalLM": (LLAMA_LIKE | {"num_local_experts": 2}, Q_K_V_O, 8),
    "Qwen2ForCausalLM": (LLAMA_LIKE, Q_K_V_O, 8),
    "Qwen3ForCausalLM": (LLAMA_LIKE | {"tie_word_embeddings": True}, Q_K_V_O, 8),
    "GemmaForCausalLM": (LLAMA_LIKE, Q_K_V_O, 8),
    "Gemma3ForCausalLM": (LLAMA_LIKE, Q_K_V_O, 8),
    "Gemma4ForCausalLM": (GEMMA4, Q_K_V_O, 12),  # its last two layers borrow their keys and values
    "PhiForCausalLM": (BERT_LIKE, {"q_proj", "k_proj", "v_proj", "dense"}, 8),
    "OPTForCausalLM": (OPT, {"q_proj", "k_proj", "v_proj", "out_proj"}, 8),
    "GPTNeoXForCausalLM": (BERT_LIKE, {"query_key_value", "dense"}, 4),
    "GPT2LMHeadModel": (GPT2, {"c_attn", "c_proj"}, 4),
    "T5ForConditionalGeneration": (T5, {"q", "k", "v", "o"}, 24),
    "T5EncoderModel": (T5, {"q", "k", "v", "o"}, 8),
    "BartForConditionalGeneration": (BART, {"q_proj", "k_proj", "v_proj", "out_proj"}, 24),
    "BertModel": (BERT_LIKE, {"query", "key", "value", "dense"}, 8),
}
every_model = pytest.mark.parametrize("name", MODELS)


def tiny(name):
    """A model of two layers or four, of random weights, ready to answer."""
    kind = getattr(transformers, name)
    torch.manual_seed(0)
    return kind(kind.config_class(**MODELS[name][0])).eval()


def say(model, **inputs):
    """What a model gives for two rows of seven tokens, first of all: logits or vectors."""
    if not inputs:
        inputs["input_ids"] = torch.randint(3, 40, (2, 7), generator=torch.Generator().manual_seed(1))
    if model.config.is_encoder_decoder and hasattr(model, "lm_head"):
        inputs["decoder_input_ids"] = torch.arange(3, 13).reshape(2, 5)
    return model(**inputs)[0]


def heard(model, **inputs):
    """The same without a gradient: attention takes another path with one, and rounds otherwise."""
    with torch.no_grad():
        return say(model, **inputs)


def stir(model, size=0.3):
    """Adapters as after a long training."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in trained(model).values():
            parameter += size * torch.randn(parameter.shape, generator=generator)
    return model


def weights(model):
    return {name.replace(".base_layer", ""): p.detach().clone() for name, p in model.named_parameters()}


def same(ones, others):
    return ones.keys() == others.keys() and all(torch.equal(ones[name], others[name]) for name in ones)


@pytest.fixture(scope="module")
def base(shared_data):
    return locate(str(shared_data.parent / "models" / "stories260K"))


@pytest.fixture(scope="module")
def stories(base):
    """The tokens of the sentences, padded on the right, and their mask."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(base.folder, padding_side="right")
    batch = tokenizer(SENTENCES, return_tensors="pt", padding=True)
    return {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}


def loss_of(model, stories):
    logits = model(**stories).logits[:, :-1]
    wanted = stories["input_ids"].masked_fill(stories["attention_mask"] == 0, -100)[:, 1:]
    return cross_entropy(logits.flatten(0, 1), wanted.flatten())


def learn(model, stories, steps, rate=1e-2):
    """The losses of some steps, the optimiser being given every parameter of the model."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.1)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = loss_of(model, stories)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


# Which layers


@every_model
def test_attention_means_the_projections_of_the_architecture(name):
    model, (_, ends, count) = tiny(name), MODELS[name]
    layers = find_layers(model, "attention")
    assert len(layers) == count and {layer.rpartition(".")[2] for layer in layers} == ends
    assert not any("mlp" in layer or "intermediate" in layer for layer in layers)
    assert "encoder.layer.0.output.dense" not in layers  # BERT's MLP ends in a `dense` too


@every_model
def test_what_peft_calls_queries_and_values_is_among_them(name):
    from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as PEFT

    model = tiny(name)
    theirs = set(PEFT.get(model.config.model_type, ())) - {"fc1", "fc2"}  # peft adapts the MLP of Phi
    if isinstance(PEFT.get(model.config.model_type), str) or not theirs:
        pytest.skip("peft has no list for it")
    assert theirs <= {layer.rpartition(".")[2] for layer in find_layers(model, "attention")}


@pytest.mark.parametrize(
    ("name", "count"), [("LlamaForCausalLM", 14), ("GPT2LMHeadModel", 8), ("BertModel", 12)]
)
def test_all_linear_is_every_layer_but_head_and_pooler(name, count):
    layers = find_layers(tiny(name), "all-linear")
    assert len(layers) == count and not {"lm_head", "pooler.dense"} & set(layers)


def test_layers_are_named_by_the_end_of_their_path():
    model = tiny("LlamaForCausalLM")
    assert find_layers(model, ("v_proj", "1.self_attn.q_proj", "lm_head")) == (
        "model.layers.0.self_attn.v_proj",
        "model.layers.1.self_attn.q_proj",
        "model.layers.1.self_attn.v_proj",
        "lm_head",
    )
    with pytest.raises(
        SettingError, match="`proj` of targets is no linear layer of this llama model, which has down_proj, "
    ):
        find_layers(model, ("q_proj", "proj"))


def test_an_unknown_architecture_says_which_layers_it_has():
    config = transformers.MambaConfig(vocab_size=40, hidden_size=16, num_hidden_layers=2)
    model = transformers.MambaForCausalLM(config)
    with pytest.raises(
        SettingError, match="mamba .* not known; name .*: dt_proj, in_proj, lm_head, out_proj, x_proj"
    ):
        find_layers(model, "attention")
    assert len(find_layers(model, ("in_proj",))) == 2


def test_an_attention_that_is_not_known_is_not_adapted_by_halves():
    model = tiny("LlamaForCausalLM")
    block = model.model.layers[1].self_attn
    block.kv_proj, block.k_proj = block.k_proj, torch.nn.Identity()
    with pytest.raises(SettingError, match="kv_proj"):
        find_layers(model, "attention")


def test_a_head_that_is_the_embedding_gets_no_adapter():
    with pytest.raises(SettingError, match="lm_head has one weight with model.embed_tokens.weight, so that"):
        attach(tiny("Qwen3ForCausalLM"), Lora(targets=("lm_head",)))


# What learns


@every_model
def test_fresh_adapters_change_nothing_and_merged_ones_say_the_same(name):
    model = tiny(name)
    before = heard(model)
    attach(model, Lora(dropout=0.5))
    assert torch.equal(heard(model), before)
    after = heard(stir(model))
    assert (after - before).abs().max() > 0.05
    merged = merge(model)
    assert merged is model and type(model).__name__ == name
    assert not any("lora" in path or "base_layer" in path for path, _ in model.named_modules())
    assert not hasattr(model, "peft_config")
    torch.testing.assert_close(heard(model), after, rtol=0, atol=1e-5 * max(1, after.abs().max().item()))


@every_model
def test_only_adapters_learn_and_every_one_does(name):
    model = tiny(name)
    before = weights(model)
    attach(model.train(), Lora(targets="all-linear"))
    start = {path: p.detach().clone() for path, p in trained(model).items()}
    assert {id(p) for p in trained(model).values()} == {id(p) for p in model.parameters() if p.requires_grad}
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        (say(model) ** 2).mean().backward()
        optimizer.step()
    after = weights(model)
    assert same({path: after[path] for path in before}, before)
    assert not [path for path, p in trained(model).items() if torch.equal(p, start[path])]


def test_the_loss_falls_on_a_real_model(base, stories):
    model = attach(load(base), Lora(rank=4, dropout=0.0)).train()
    before = weights(load(base))
    losses = learn(model, stories, 15)
    assert losses[0] > 3 and losses[-1] < 0.5 * losses[0]
    after = weights(model)
    assert same({name: after[name] for name in before}, before)


def test_gradients_flow_with_vectors_for_tokens(base, stories):
    model = attach(load(base), Lora()).train()
    tokens_BT = stories["input_ids"]
    vectors_BTD = model.get_input_embeddings()(tokens_BT).detach().requires_grad_()
    model(inputs_embeds=vectors_BTD, attention_mask=stories["attention_mask"]).logits.mean().backward()
    assert vectors_BTD.grad.abs().sum() > 0
    assert all(p.grad.abs().sum() > 0 for name, p in trained(model).items() if "lora_B" in name)
    assert all(p.grad is None for p in model.parameters() if not p.requires_grad)


@pytest.mark.parametrize("as_vectors", [False, True])
def test_checkpointing_runs_layers_twice_and_gives_the_same_gradients(base, stories, as_vectors):
    gradients, runs = [], []
    for checkpointing in (False, True):
        model = stir(attach(load(base), Lora(dropout=0.0), checkpointing=checkpointing)).train()
        calls = []
        model.model.layers[0].self_attn.register_forward_pre_hook(lambda *_, calls=calls: calls.append(1))
        inputs = dict(stories)
        if as_vectors:  # of a frozen embedding: nothing that goes in wants a gradient
            inputs["inputs_embeds"] = model.get_input_embeddings()(inputs.pop("input_ids"))
            assert not inputs["inputs_embeds"].requires_grad
        cross_entropy(model(**inputs).logits[:, -1], torch.tensor([5, 6, 7])).backward()
        gradients.append({name: p.grad for name, p in trained(model).items()})
        runs.append(len(calls))
    assert runs == [1, 2]
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-5, atol=1e-7)


def test_checkpointing_that_a_model_does_not_know_is_refused():
    model = tiny("LlamaForCausalLM")
    model.supports_gradient_checkpointing = False
    with pytest.raises(SettingError, match="a LlamaForCausalLM knows no checkpointing; leave it off"):
        attach(model, Lora(), checkpointing=True)


def test_a_model_keeps_its_mode_and_drops_out_in_training_only():
    model = stir(attach(tiny("LlamaForCausalLM"), Lora(dropout=0.5)))
    assert not any(module.training for module in model.modules())
    assert torch.equal(heard(model), heard(model))
    model.train()
    assert not torch.equal(heard(model), heard(model))
    assert all(module.training for module in attach(tiny("BertModel").train(), Lora()).modules())


def test_adapters_of_a_bfloat16_model_are_float32_and_merged_with_one_rounding(base, stories):
    model = attach(load(base, compute_dtype="bfloat16"), Lora(rank=2, alpha=6.0))
    assert {p.dtype for p in trained(model).values()} == {torch.float32}
    name = "model.layers.0.self_attn.q_proj"
    before = model.get_submodule(name).weight.detach().clone()
    stir(model)
    A, B = (trained(model)[f"{name}.lora_{which}.weight"].detach() for which in "AB")
    assert heard(model, **stories).dtype == torch.bfloat16
    weight = merge(model).get_submodule(name).weight
    assert torch.equal(weight, (before.float() + B @ A * 3).bfloat16())


def test_what_is_named_learns_as_a_whole_and_comes_back(base, stories, tmp_path):
    model = attach(load(base), Lora(targets=("q_proj",), whole=("norm", "lm_head", "embed_tokens"))).train()
    # the embedding and the head of this model are one tensor, which counts once
    assert [name for name in trained(model) if "lora" not in name] == ["model.norm.weight", "lm_head.weight"]
    before = weights(load(base))
    learn(model, stories, 3)
    after = weights(model)
    assert {name for name in before if not torch.equal(before[name], after[name])} == {
        "model.norm.weight",
        "model.embed_tokens.weight",
    }
    save(model, tmp_path / "kept", base)
    assert torch.equal(heard(restore(base, tmp_path / "kept"), **stories), heard(model.eval(), **stories))


@pytest.mark.parametrize(
    ("whole", "message"),
    [
        (
            "layers.1",
            r"model.layers.1.self_attn.q_proj would learn by an adapter and as a whole \(`layers.1`\)",
        ),
        ("norms", "`norms` of whole is no module and no parameter of this llama model"),
    ],
)
def test_a_whole_that_cannot_be_is_refused_before_the_model_is_touched(whole, message):
    model = tiny("LlamaForCausalLM")
    with pytest.raises(SettingError, match=message):
        attach(model, Lora(whole=(whole,)))
    assert all(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"rank": 0}, "rank of LoRA is 0, expected 1 or more"),
        ({"alpha": 0.0}, "alpha of LoRA is 0.0, expected a number above 0"),
        ({"alpha": float("nan")}, "alpha of LoRA is nan"),
        ({"dropout": 1.0}, "dropout of LoRA is 1.0, expected 0 or more and below 1"),
        ({"targets": "q_proj"}, "targets of LoRA is 'q_proj', expected attention, all-linear or layer names"),
        ({"targets": ()}, r"targets of LoRA is \(\), expected"),
        ({"targets": ("q_proj", "")}, "expected attention, all-linear or layer names"),
        ({"whole": "norm"}, "whole of LoRA is 'norm', expected names of modules"),
        ({"seed": -1}, r"seed of LoRA is -1, expected 0 or more and below 2 \*\* 63"),
    ],
)
def test_settings_that_cannot_be_are_refused(keys, message):
    with pytest.raises(SettingError, match=message):
        Lora(**keys)


def test_a_list_from_yaml_is_as_good_as_a_tuple():
    assert Lora(targets=["q_proj"], whole=["norm"]) == Lora(targets=("q_proj",), whole=("norm",))


def test_adapters_are_neither_put_on_twice_nor_taken_from_where_there_are_none():
    model = attach(tiny("LlamaForCausalLM"), Lora(rank=3, targets=("q_proj",)))
    with pytest.raises(SettingError, match="carries adapters already .rank 3, alpha 16 on q_proj.; merge"):
        attach(model, Lora())
    merge(model)
    for ask in (trained, merge):
        with pytest.raises(
            SettingError, match="this LlamaForCausalLM carries no adapters; attach or restore"
        ):
            ask(model)
    assert trained(attach(model, Lora()))


# The start

START = """
import hashlib, sys
import torch
torch.manual_seed(int(sys.argv[2]))
from recbole_llm.llm.load import load
from recbole_llm.llm.lora import Lora, attach, trained
from recbole_llm.text.location import locate
before = torch.get_rng_state()
model = attach(load(locate(sys.argv[1])), Lora(seed=5))
assert torch.equal(torch.get_rng_state(), before), "attach drew from the caller's generator"
digest = hashlib.sha256()
for name, parameter in trained(model).items():
    digest.update(name.encode() + parameter.detach().numpy().tobytes())
print(digest.hexdigest())
"""


@pytest.mark.slow
def test_two_processes_start_bit_equal_whatever_they_drew_before(base):
    processes = [
        subprocess.Popen([sys.executable, "-c", START, str(base.folder), chance], stdout=subprocess.PIPE)
        for chance in "12"
    ]
    said = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    digest = hashlib.sha256()
    for name, parameter in trained(attach(load(base), Lora(seed=5))).items():
        digest.update(name.encode() + parameter.detach().numpy().tobytes())
    assert {line.decode().strip() for line in said} == {digest.hexdigest()}


def test_the_seed_alone_decides_the_start():
    def start(seed, chance):
        torch.manual_seed(chance)
        model = attach(tiny("LlamaForCausalLM"), Lora(seed=seed))
        return {name: p.detach() for name, p in trained(model).items()}

    one = start(1, 1)
    assert same(start(1, 2), one) and not same(start(2, 1), one)
    A = one["model.layers.0.self_attn.q_proj.lora_A.weight"]
    assert 0.2 < A.abs().max() <= 0.25  # up to 1 / sqrt(16)
    assert not torch.equal(A, one["model.layers.1.self_attn.q_proj.lora_A.weight"])


def test_the_callers_random_numbers_stay_as_they_are():
    model = tiny("LlamaForCausalLM")
    before = torch.get_rng_state()
    attach(model, Lora())
    assert torch.equal(torch.get_rng_state(), before)


# On disk


@pytest.fixture(scope="module")
def kept(base, stories, tmp_path_factory):
    """A folder with learned adapters, and the logits of their model."""
    folder = tmp_path_factory.mktemp("lora") / "kept"
    model = attach(load(base), Lora(rank=4, alpha=6.0)).train()
    learn(model, stories, 5)
    save(model, folder, base)
    return folder, heard(model.eval(), **stories)


@pytest.fixture
def copied(kept, tmp_path):
    return shutil.copytree(kept[0], tmp_path / "copied")


def test_what_is_kept_comes_back_bit_for_bit(base, stories, kept):
    folder, logits = kept
    assert not torch.equal(logits, heard(load(base), **stories))
    other = attach(load(base), Lora(rank=4, alpha=6.0, seed=9, dropout=0.0, targets=sorted(Q_K_V_O)))
    for model in (None, load(base), stir(other)):
        back = restore(base, folder, model)
        assert model is None or back is model
        assert torch.equal(heard(back, **stories), logits)
        assert {id(p) for p in trained(back).values()} == {
            id(p) for p in back.parameters() if p.requires_grad
        }


def test_the_manifest_says_what_was_kept(base, kept):
    manifest = json.loads((kept[0] / "manifest.json").read_text())
    made_of = manifest["made_of"]
    assert made_of["base"] == {"name": "stories260K", "revision": base.revision, "kind": "causal"}
    assert made_of["settings"] == {
        "rank": 4, "alpha": 6.0, "dropout": 0.05, "targets": "attention", "whole": [], "seed": 0
    }  # fmt: skip
    assert {"torch", "transformers", "peft"} <= manifest["versions"].keys()
    (file,) = kept[0].glob("*.safetensors")
    assert sorted(path.name for path in kept[0].iterdir()) == [file.name, "manifest.json"]
    tensors = load_file(file)
    assert len(tensors) == 5 * 4 * 2 and all(".lora_" in name for name in tensors)


@pytest.mark.parametrize(
    ("name", "kind", "loaded"),
    [
        ("T5ForConditionalGeneration", "seq2seq", "T5ForConditionalGeneration"),
        ("T5ForConditionalGeneration", "encoder", "T5EncoderModel"),
        ("T5EncoderModel", "encoder", "T5EncoderModel"),
        ("BartForConditionalGeneration", "encoder", "BartEncoder"),
        ("LlamaForCausalLM", "encoder", "LlamaModel"),
    ],
)
def test_an_adapted_model_comes_back_as_the_kind_it_was(name, kind, loaded, tmp_path):
    tiny(name).save_pretrained(tmp_path / "base")
    base = locate(str(tmp_path / "base"))
    model = stir(attach(load(base, kind), Lora()))
    save(model, tmp_path / "kept", base)
    back = restore(base, tmp_path / "kept")
    assert type(back).__name__ == type(model).__name__ == loaded
    assert torch.equal(heard(back), heard(model))


def test_adapters_of_another_base_are_refused_with_both_revisions(base, kept, tmp_path):
    twin = shutil.copytree(base.folder, tmp_path / "twin")
    restore(locate(str(twin)), kept[0])  # the same files at another place are the same model
    config = json.loads((twin / "config.json").read_text())
    (twin / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 1e-4}))
    other = locate(str(twin))
    with pytest.raises(
        ArtifactError,
        match=f"made for stories260K at {base.revision}, this is twin at {other.revision}; take",
    ):
        restore(other, kept[0])


@pytest.mark.parametrize(
    ("lora", "message"),
    [
        (
            Lora(rank=8, alpha=6.0),
            r"rank 4, alpha 6 on .*has rank 8, alpha 6 on .*\(4, 64\), expected \(8, 64\)",
        ),
        (Lora(rank=4, alpha=8.0), "has rank 4, alpha 8 on q_proj, k_proj, v_proj, o_proj: another alpha"),
        (Lora(rank=4, alpha=6.0, targets=("q_proj", "v_proj")), "has rank 4, alpha 6 on q_proj, v_proj: "),
        (Lora(rank=4, alpha=6.0, targets="all-linear"), "gate_proj.lora_A.weight of shape None, expected"),
        (Lora(rank=4, alpha=6.0, whole=("norm",)), "model.norm.weight of shape None, expected"),
    ],
)
def test_adapters_of_other_settings_are_refused(base, stories, kept, lora, message):
    model = stir(attach(load(base), lora))
    before = heard(model, **stories)
    with pytest.raises(ArtifactError, match=message):
        restore(base, kept[0], model)
    assert torch.equal(heard(model, **stories), before)


def test_a_model_of_another_kind_is_refused_and_left_without_adapters(base, kept):
    model = load(base, "encoder")
    with pytest.raises(ArtifactError, match=r"`?layers.0.self_attn.q_proj.lora_A.weight of shape None"):
        restore(base, kept[0], model)
    assert trained(attach(model, Lora()))
    with pytest.raises(ArtifactError, match="does not fit a T5EncoderModel: `foo` of targets"):
        folder = kept[0].with_name("foo")
        llama = load(base)
        llama.model.layers[0].self_attn.foo = torch.nn.Linear(64, 64)
        save(attach(llama, Lora(targets=("foo",))), folder, base)
        restore(base, folder, tiny("T5EncoderModel"))


def damaged(folder, what):
    (tensors,) = folder.glob("*.safetensors")
    manifest = folder / "manifest.json"
    data, said = tensors.read_bytes(), json.loads(manifest.read_text())
    if what == "cut":
        tensors.write_bytes(data[:-100])
    elif what == "a bit":
        tensors.write_bytes(data[:-5] + bytes([data[-5] ^ 1]) + data[-4:])
    elif what == "no tensors":
        tensors.unlink()
    elif what == "no manifest":
        manifest.unlink()
    elif what == "half a manifest":
        manifest.write_text(manifest.read_text()[:200])
    elif what == "another format":
        manifest.write_text(json.dumps(said | {"format": "recbole-llm lora 0"}))
    elif what == "an empty manifest":
        manifest.write_text("[]")
    else:  # a setting that none wrote: the outputs would be others
        said["made_of"]["settings"]["alpha"] = 12.0
        manifest.write_text(json.dumps(said))


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("cut", "is damaged: a hash differs from its manifest. Train"),
        ("a bit", "is damaged: a hash differs"),
        ("another alpha", "is damaged: a hash differs"),
        ("no tensors", "is not complete: no adapters-.*safetensors"),
        ("no manifest", "is not complete: no manifest.json"),
        ("half a manifest", "cannot be read .JSONDecodeError"),
        ("an empty manifest", "cannot be read .TypeError"),
        ("another format", "has format 'recbole-llm lora 0', expected 'recbole-llm lora 1'"),
    ],
)
def test_damaged_files_are_refused(base, copied, what, message):
    damaged(copied, what)
    with pytest.raises(ArtifactError, match=message):
        restore(base, copied)


def test_a_folder_that_is_not_there_is_said(base, tmp_path):
    with pytest.raises(ArtifactError, match="nowhere is not there: no manifest.json"):
        restore(base, tmp_path / "nowhere")


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("form", ["folder", "file", "disguised"])
def test_a_pickle_is_refused_and_not_read(base, copied, tmp_path, form):
    data = pickle.dumps(Bomb(tmp_path / "it ran"))
    if form == "disguised":  # under the name and hash of good tensors
        (tensors,) = copied.glob("*.safetensors")
        tensors.unlink()
        said = json.loads((copied / "manifest.json").read_text())
        said["made_of"]["sha256"] = hashlib.sha256(data).hexdigest()
        said["key"] = content_key(said["made_of"])
        (copied / f"adapters-{said['made_of']['sha256'][:16]}.safetensors").write_bytes(data)
        (copied / "manifest.json").write_text(json.dumps(said))
        folder, message = copied, "cannot be read .SafetensorError"
    else:
        folder = tmp_path / "theirs"
        folder.mkdir()
        (folder / "adapter_config.json").write_text("{}")
        (folder / "adapter_model.bin").write_bytes(data)
        folder = folder / "adapter_model.bin" if form == "file" else folder
        message = (
            r"adapters in a pickle \(adapter_model.bin\), which runs code when it is read, so it is not read"
        )
    with pytest.raises(ArtifactError, match=message):
        restore(base, folder)
    assert not (tmp_path / "it ran").exists()
    pickle.loads(data)
    assert (tmp_path / "it ran").exists()  # the bomb was a live one


KILLED = """
import os, signal, sys
from recbole_llm.llm import adapters, load, lora
from recbole_llm.text.location import locate
replace, left = os.replace, [int(sys.argv[3])]
def kill_at(source, target):
    left[0] -= 1
    if left[0] < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    replace(source, target)
base = locate(sys.argv[1])
model = lora.attach(load.load(base), lora.Lora(rank=2))
os.replace = kill_at
adapters.save(model, sys.argv[2], base)
"""


def killed(base, folder, after):
    """A process that keeps other adapters in ``folder`` and dies when it has renamed ``after`` files."""
    command = [sys.executable, "-c", KILLED, str(base.folder), str(folder), str(after)]
    assert subprocess.run(command, timeout=300).returncode == -signal.SIGKILL


@pytest.mark.slow
@pytest.mark.parametrize("after", [0, 1])
def test_a_kill_between_the_files_leaves_nothing_or_what_was_there(
    base, stories, kept, copied, after, tmp_path
):
    killed(base, tmp_path / "fresh", after)
    assert len(list((tmp_path / "fresh").glob("*.safetensors"))) == after
    with pytest.raises(ArtifactError, match="fresh is not complete: no manifest.json"):
        restore(base, tmp_path / "fresh")
    killed(base, copied, after)
    assert torch.equal(heard(restore(base, copied), **stories), kept[1])
    save(attach(load(base), Lora(rank=3)), copied, base)
    assert len(list(copied.glob("*.safetensors"))) == 1
    assert "lora_A.weight" in next(iter(trained(restore(base, copied))))


def test_a_second_save_takes_the_place_of_the_first(base, stories, copied):
    model = stir(attach(load(base), Lora(rank=2)))
    save(model, copied, base)
    assert len(list(copied.iterdir())) == 2
    assert torch.equal(heard(restore(base, copied), **stories), heard(model, **stories))


def test_adapters_are_not_kept_inside_their_base(base, tmp_path):
    twin = locate(str(shutil.copytree(base.folder, tmp_path / "twin")))
    with pytest.raises(SettingError, match="is inside the folder of twin, whose hash would change"):
        save(attach(load(twin), Lora()), tmp_path / "twin" / "adapters", twin)
    assert not (tmp_path / "twin" / "adapters").exists()


# Loading and serving


def test_a_merged_model_is_a_plain_one_that_the_backend_runs(base, stories, kept, tmp_path):
    model = restore(base, kept[0])
    adapted = copy.deepcopy(model)
    merged = merge(model)
    torch.testing.assert_close(heard(merged, **stories), heard(adapted, **stories), rtol=1e-5, atol=1e-4)
    shutil.copytree(base.folder, tmp_path / "merged", ignore=shutil.ignore_patterns("*.safetensors"))
    merged.save_pretrained(tmp_path / "merged")
    again = load(locate(str(tmp_path / "merged")))
    assert torch.equal(heard(again, **stories), heard(merged, **stories))

    question = Request("Toy Story", max_tokens=8)
    ((_, answer),) = LocalBackend(str(tmp_path / "merged")).complete([question])
    ((_, before),) = LocalBackend(str(base.folder)).complete([question])
    tokenizer = transformers.AutoTokenizer.from_pretrained(base.folder)
    ids = tokenizer(question.prompt, return_tensors="pt")
    said = adapted.generate(**ids, max_new_tokens=8, do_sample=False)[0, ids["input_ids"].shape[1] :]
    assert answer.text == tokenizer.decode(said, skip_special_tokens=True) != before.text


def test_a_model_is_loaded_as_the_kind_that_is_asked_for(base, tmp_path):
    assert type(load(base)).__name__ == "LlamaForCausalLM" and not load(base).training
    assert type(load(base, "encoder")).__name__ == "LlamaModel"
    tiny("T5ForConditionalGeneration").save_pretrained(tmp_path / "t5")
    t5 = locate(str(tmp_path / "t5"))
    assert type(load(t5, "seq2seq")).__name__ == "T5ForConditionalGeneration"
    assert type(load(t5, "encoder")).__name__ == "T5EncoderModel"
    with pytest.raises(SettingError, match="t5 is a t5 model, of which there is none that is causal"):
        load(t5)
    with pytest.raises(
        SettingError, match="kind of model is 'decoder', expected one of causal, seq2seq, encoder"
    ):
        load(base, "decoder")


def test_a_model_without_all_its_weights_is_refused(tmp_path):
    tiny("LlamaForCausalLM").model.save_pretrained(tmp_path / "headless")
    with pytest.raises(BackendError, match="headless lacks 1 weights of a causal model, e.g. lm_head.weight"):
        load(locate(str(tmp_path / "headless")))
    load(locate(str(tmp_path / "headless")), "encoder")
