"""Every product of every network has the precision asked for, in what a GPU would run."""

import re

import jax
import jax.numpy as jnp
import pytest

from m3sr_jax.config import ModelConfig, OptimConfig
from m3sr_jax.errors import InputError
from m3sr_jax.evaluation.report import model_facts
from m3sr_jax.model_card import ModelCard
from m3sr_jax.models import M3SR, build_model, create, parameter_shapes
from m3sr_jax.networks import BASELINES
from m3sr_jax.training.optimizer import make_optimizer
from m3sr_jax.training.state import create_train_state
from m3sr_jax.training.step import jit_train_step

# "reference" is traced in a tenth of the time; test_mamba_token_mix.py tests the products of all implementations.
M3SR_FIELDS = {"num_groups": 2, "features": 4, "implementation": "reference"}
SMALL = {
    "m3sr": M3SR_FIELDS,
    "m3sr, remat": M3SR_FIELDS | {"remat": True, "branches": ("spectral",)},
    "mst_plus_plus": {"transformers": 1, "features": 4},
    "hscnn_plus": {"dense_blocks": 1},
    "hrnet": {"width": 8},
    "gmsr": {"implementation": "reference"},
    "hsrnet": {"stages": 1},
    "fmnet": {"blocks": 1, "width": 8},
    "essaformer": {"width": 8},
    "pixel": {},
    "regression": {"base": "root2"},
}
PRECISIONS = {"float32": "HIGHEST", "tf32": "DEFAULT"}  # field → what StableHLO calls it


def precisions(traced):
    """The precisions of all dot_generals and convolutions, gradient and library functions included, for CUDA."""
    text = traced.lower(lowering_platforms=("cuda",)).as_text()
    products = [line for line in text.splitlines() if re.search(r"stablehlo\.(dot_general|convolution)", line)]
    assert products
    return {name for line in products for name in (re.findall(r"\b(HIGHEST|HIGH|DEFAULT)\b", line) or ["none"])}


def trace_forward(model):
    image = jax.ShapeDtypeStruct((1, 8, 8, 3), jnp.float32)
    return jax.jit(lambda params, rgb: model.apply({"params": params}, rgb)).trace(parameter_shapes(model), image)


def trace_training_step(model, **optim):
    optimizer = make_optimizer(OptimConfig(**optim), num_steps=10)
    state = jax.eval_shape(lambda params: create_train_state(optimizer, params), parameter_shapes(model))
    batch = {name: jax.ShapeDtypeStruct((1, 8, 8, bands), jnp.float32) for name, bands in (("rgb", 3), ("cube", 31))}
    return jit_train_step(model, optimizer).trace(state, batch)


def test_no_network_is_left_out():
    assert set(SMALL) >= {"m3sr", *BASELINES, "pixel", "regression"}


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("case", SMALL)
def test_every_product_of_forward_and_training_step(case, precision):
    model = create(case.partition(",")[0], **SMALL[case], matmul_precision=precision)
    assert precisions(trace_forward(model)) == {PRECISIONS[precision]}
    assert precisions(trace_training_step(model)) == {PRECISIONS[precision]}


def test_wavelets_of_the_library_too():
    model = create("m3sr", **M3SR_FIELDS, wavelet="db2", branches=("frequency",))
    assert precisions(trace_forward(model)) == {"HIGHEST"}


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_base_and_a_pixel_head_too(precision):
    config = ModelConfig(name="pixel", base="root2", pixel_head=True, matmul_precision=precision)
    assert precisions(trace_training_step(build_model(config))) == {PRECISIONS[precision]}


def test_the_default_is_float32_even_where_jax_is_told_otherwise():
    assert ModelConfig().matmul_precision == M3SR().matmul_precision == "float32"
    with jax.default_matmul_precision("tensorfloat32"):
        assert precisions(trace_forward(create("pixel"))) == {"HIGHEST"}


def test_muon_computes_in_float32_whatever_the_network_does():
    model = create("pixel", matmul_precision="tf32")
    assert precisions(trace_training_step(model, name="muon")) == {"DEFAULT", "HIGHEST"}


def test_a_bfloat16_network_keeps_the_platforms_precision():
    assert precisions(trace_training_step(create("pixel", dtype=jnp.bfloat16))) == {"DEFAULT"}
    with_base = build_model(ModelConfig(name="pixel", base="root2", dtype="bfloat16"))
    assert precisions(trace_forward(with_base)) == {"DEFAULT", "HIGHEST"}  # the regression is computed in float32


def test_an_unknown_precision_is_refused():
    with pytest.raises(InputError, match=r'model\.matmul_precision: found "half", expected one of float32, tf32'):
        ModelConfig(matmul_precision="half")


def test_a_card_has_the_precision_unless_it_is_the_default():
    """So cards and fingerprints of earlier versions stay as they are, and load."""
    bands = (450.0, 550.0, 650.0)
    usual, fast = (ModelCard(ModelConfig(num_bands=3, matmul_precision=name), bands) for name in PRECISIONS)
    assert "matmul_precision" not in usual.to_json()
    assert [ModelCard.from_json(card.to_json()) for card in (usual, fast)] == [usual, fast]
    assert build_model(ModelCard.from_json(fast.to_json()).model).matmul_precision == "tf32"
    assert [model_facts(card)["matmul_precision"] for card in (usual, fast)] == ["float32", "tf32"]
