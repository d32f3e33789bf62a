"""Layers that the networks share, initialised as in the authors' release."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.typing import Dtype, Initializer
from jaxtyping import Array, Float
from m3sr_kernels import Implementation, group_norm_silu, layer_norm


def uniform_fan_in(fan_in: int) -> Initializer:
    """Builds an initialiser that draws from U(−1/√fan_in, 1/√fan_in), as convolutions do in PyTorch by default."""
    bound = 1 / math.sqrt(fan_in)
    return lambda key, shape, dtype=jnp.float32: 2 * bound * (_draw(jax.random.uniform, key, shape, dtype) - 0.5)


def normal_fan(fan: int) -> Initializer:
    """Builds an initialiser that draws from a normal distribution of std √(2/fan), as He et al. do before ReLUs."""
    std = math.sqrt(2 / fan)
    return lambda key, shape, dtype=jnp.float32: std * _draw(jax.random.normal, key, shape, dtype)


def linear_init(key: Array, shape: tuple[int, ...], dtype: Dtype = jnp.float32) -> Array:
    """Draws the weights of a linear layer: normal, std 0.02 (the release truncates at ±2, a hundred deviations out)."""
    return 0.02 * _draw(jax.random.normal, key, shape, dtype)


def _draw(sample: Callable[..., Array], key: Array, shape: tuple[int, ...], dtype: Dtype) -> Array:
    # A flat draw compiles twice as fast as one over several axes, and a model makes 160 of them.
    return sample(key, (math.prod(shape),), dtype).reshape(shape)


def statistics_dtype(dtype: Dtype) -> Dtype:
    """Returns the type in which scans and norms compute: float32, or the model's if that is wider."""
    return jnp.float32 if jnp.finfo(dtype).bits < 32 else dtype


class Layer(nn.Module, kw_only=True):
    """A module that knows the type of its computation and that of its parameters.

    Attributes:
      dtype: type of the computation; scans and statistics stay in float32 or wider.
      param_dtype: type of the parameters.
    """

    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    @property
    def types(self) -> dict[str, Any]:
        """Both types, as fields of the layers inside."""
        return {"dtype": self.dtype, "param_dtype": self.param_dtype}


def layer_implementation(implementation: Implementation | None) -> Implementation | None:
    """Returns the implementation of the layers in a network whose scans have this one: other names are of scans."""
    return implementation if implementation in (None, "native") else "xla"


class LayerNorm(Layer):
    """Layer norm of every pixel, then a scale and a shift for each channel.

    Linen's own layers promote types implicitly, which strict promotion forbids.

    Attributes:
      epsilon: added to the variance.
      implementation: of the scans of the network.
    """

    epsilon: float
    implementation: Implementation | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H W C"]:
        wide = x.astype(statistics_dtype(self.dtype))
        implementation = layer_implementation(self.implementation)
        params = _scale_and_bias(self, wide)
        return layer_norm(wide, *params, epsilon=self.epsilon, implementation=implementation).astype(self.dtype)


class GroupNormSiLU(Layer):
    """Group norm of every image, a scale and a shift for each channel, SiLU, then a shortcut.

    Attributes:
      num_groups: groups of neighbouring channels.
      epsilon: added to the variance.
      implementation: of the scans of the network.
    """

    num_groups: int
    epsilon: float
    implementation: Implementation | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"], shortcut: Float[Array, "B H W C"]) -> Float[Array, "B H W C"]:
        wide = x.astype(statistics_dtype(self.dtype))
        fields: Any = {"num_groups": self.num_groups, "epsilon": self.epsilon}
        fields["implementation"] = layer_implementation(self.implementation)
        return group_norm_silu(wide, *_scale_and_bias(self, wide), shortcut, **fields).astype(self.dtype)


def _scale_and_bias(
    norm: LayerNorm | GroupNormSiLU, wide: Float[Array, "B H W C"]
) -> tuple[Float[Array, " C"], Float[Array, " C"]]:
    """Returns parameters `scale` and `bias` of a norm in the type it computes in."""
    width, ones, zeros = wide.shape[-1], nn.initializers.ones, nn.initializers.zeros
    scale = norm.param("scale", ones, width, norm.param_dtype).astype(wide.dtype)
    return scale, norm.param("bias", zeros, width, norm.param_dtype).astype(wide.dtype)


def conv(
    features: int, in_features: int, size: int = 3, *, stride: int = 1, padding: int | None = None, **fields: Any
) -> nn.Module:
    """Builds a convolution that starts as PyTorch's do; without a bias, unless `use_bias=True`.

    Of size 1 it is a matrix product over the channels, with a kernel of shape (in, out).

    Args:
      features: channels out.
      in_features: channels in, for the initialisation.
      size: side of the kernel.
      stride: step in pixels.
      padding: zeros on every side; by default (size − 1)/2, which keeps the image's size.
      **fields: fields of `nn.Conv` and `nn.Dense`, such as `name`, `dtype`, `param_dtype`, `use_bias`, `kernel_init`.
    """
    init = uniform_fan_in(size * size * in_features)
    fields = {"use_bias": False, "kernel_init": init, "bias_init": init, **fields}
    if size == 1:
        return dense(features, **fields)
    if features % 8:
        fields["conv_general_dilated"] = conv_whole_vectors
    return nn.Conv(features, (size, size), stride, padding=size // 2 if padding is None else padding, **fields)


def dense(features: int, **fields: Any) -> nn.Module:
    """Builds `nn.Dense` of `pixel_product`."""
    return nn.Dense(features, dot_general=_dot_general_of_dense, **fields)


def _dot_general_of_dense(x: Array, kernel: Array, dimension_numbers: Any, **options: Any) -> Array:
    del dimension_numbers
    return pixel_product(x, kernel, **options)


def pixel_product(x: Float[Array, "*shape I"], kernel: Float[Array, "I O"], **options: Any) -> Float[Array, "*shape O"]:
    """Multiplies the channels of every pixel by a matrix, as one product of two matrices.

    The gradient for the matrix is a sum over all pixels. On a CPU, XLA takes up to ten times as long for a sum over
    several axes as for the same sum over one.

    Args:
      x: (…, I).
      kernel: (I, O).
      **options: those of `jax.lax.dot_general`.
    """
    rows = x.reshape(-1, x.shape[-1])
    products = jax.lax.dot_general(rows, kernel, (((1,), (0,)), ((), ())), **options)
    return products.reshape(*x.shape[:-1], kernel.shape[1])


def conv_whole_vectors(x: Float[Array, "B H W C"], kernel: Float[Array, "K L C O"], *args: Any, **kwargs: Any) -> Array:
    """Convolves with zeros appended to the kernel, up to a multiple of 8 outputs, and cuts those outputs off.

    On a CPU, XLA takes 1.5 times as long for 31 outputs as for 32, and likewise for the gradient.
    """
    outputs = kernel.shape[-1]
    wide = jnp.pad(kernel, ((0, 0), (0, 0), (0, 0), (0, -outputs % 8)))
    return jax.lax.conv_general_dilated(x, wide, *args, **kwargs)[..., :outputs]


class UpConv(Layer):
    """Doubles H and W by a transposed 2×2 convolution of stride 2.

    out[2i+k, 2j+l, o] = bias[o] + Σ_c x[i, j, c]·kernel[c, k, l, o]. The 2×2 patches do not overlap, so one matrix
    product and a shuffle are enough.
    """

    features: int

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B 2*H 2*W O"]:
        batch, height, width, channels = x.shape
        # PyTorch counts the fan-in of a transposed convolution on its output side.
        init = uniform_fan_in(4 * self.features)
        kernel = self.param("kernel", init, (channels, 2, 2, self.features), self.param_dtype)
        bias = self.param("bias", init, (self.features,), self.param_dtype)
        patches = pixel_product(x, kernel.astype(self.dtype).reshape(channels, -1))
        patches = patches.reshape(batch, height, width, 2, 2, self.features).transpose(0, 1, 3, 2, 4, 5)
        image = patches.reshape(batch, 2 * height, 2 * width, self.features)
        return image + bias.astype(self.dtype)[None, None, None]
