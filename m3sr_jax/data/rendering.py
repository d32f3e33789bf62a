"""Pictures of synthetic scenes: flat Voronoi regions behind, dead leaves in front, lit from one side.

Everything is drawn at twice the resolution and reduced by a binomial filter, so that edges mix as in a lens.

Dead leaves with power-law sizes and 1/f textures share the statistics of natural images.

Source: A. Lee, D. Mumford and J. Huang, "Occlusion models for natural images", IJCV 2001.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, Int

# Radii as shares of the picture's shorter side; with density ∝ r⁻³, leaves of every scale cover equal areas.
SMALLEST_LEAF, LARGEST_LEAF = 0.035, 0.4
SHADOW = 0.55


def radiance(
    rng: np.random.Generator,
    reflectances: Float64[np.ndarray, "N S"],
    light: Float64[np.ndarray, " S"],
    height: int,
    width: int,
) -> Float32[np.ndarray, "H W S"]:
    """Renders one scene: light(λ) · (shading · albedo · ((1 − m) ρ₁(λ) + m ρ₂(λ)) + gloss).

    Each region mixes two reflectances by a smooth mask m, has an albedo with 1/f texture, and may bulge and shine.
    Gloss has the colour of the light.

    Args:
        rng: source of all random choices.
        reflectances: to choose from.
        light: relative power of the illuminant.
        height: of the picture in pixels.
        width: of the picture in pixels.

    Returns:
        radiance in [0, 1], exposed so that 99 % of pixels have no band above 1; brighter ones, mostly highlights,
        clip.
    """
    layout = dead_leaves(rng, 2 * height + 2, 2 * width + 2)
    diffuse, gloss = shading(rng, layout)
    first, second, mask, albedo = materials(rng, layout, len(reflectances))
    light32 = light.astype(np.float32)
    spectra = reflectances.astype(np.float32) * light32
    picture = spectra[first[layout.labels]]
    picture += mask[..., None] * (spectra[second[layout.labels]] - picture)
    picture *= (diffuse * albedo)[..., None]
    picture += gloss[..., None] * light32
    picture = halved(halved(picture).swapaxes(0, 1)).swapaxes(0, 1)
    exposure = np.percentile(picture.max(axis=-1), 99).astype(np.float32)
    return np.clip(picture / exposure, np.float32(0), np.float32(1))


@dataclass(frozen=True)
class Layout:
    """Which region each pixel shows, where within it, and whether another region's shadow falls there.

    Attributes:
        labels: region, 0 ≤ label < count.
        across: offset from the centre of the region's leaf in units of its radius; 0 in Voronoi regions.
        down: the same along columns.
        shadow: share of the light that arrives, 1 outside shadows.
        count: number of regions.
    """

    labels: Int[np.ndarray, "H W"]
    across: Float32[np.ndarray, "H W"]
    down: Float32[np.ndarray, "H W"]
    shadow: Float32[np.ndarray, "H W"]
    count: int


@dataclass(frozen=True)
class Leaf:
    """All (x, y) with |u|^p + |v / flatness|^p ≤ radius^p, turned by `angle`: a lozenge, ellipse or rounded box."""

    y: float
    x: float
    radius: float
    angle: float
    flatness: float
    roundness: float

    def pixels(self, height: int, width: int, shift_y: float = 0, shift_x: float = 0):
        """Returns the leaf's bounding box in the picture, the pixels it covers there, and offsets in radii."""
        centre_y, centre_x, extent = self.y + shift_y, self.x + shift_x, 1.5 * self.radius
        top, bottom = (min(max(0, int(edge)), height) for edge in (centre_y - extent, centre_y + extent + 1))
        left, right = (min(max(0, int(edge)), width) for edge in (centre_x - extent, centre_x + extent + 1))
        down = ((np.arange(top, bottom) - centre_y) / self.radius).astype(np.float32)[:, None]
        across = ((np.arange(left, right) - centre_x) / self.radius).astype(np.float32)[None]
        u = np.cos(self.angle) * across + np.sin(self.angle) * down
        v = (np.cos(self.angle) * down - np.sin(self.angle) * across) / self.flatness
        inside = np.abs(u) ** self.roundness + np.abs(v) ** self.roundness <= 1
        return np.s_[top:bottom, left:right], inside, across, down


def dead_leaves(rng: np.random.Generator, height: int, width: int) -> Layout:
    """Draws Voronoi regions with wavy borders, then leaves that cover and shade what is below."""
    labels, count = voronoi(rng, height, width)
    across, down = np.zeros((2, height, width), np.float32)
    shadow = np.ones((height, width), np.float32)
    away = rng.uniform(0, 2 * np.pi)
    for leaf in leaves(rng, height, width):
        reach = 0.2 * leaf.radius
        box, inside, *_ = leaf.pixels(height, width, reach * np.sin(away), reach * np.cos(away))
        np.copyto(shadow[box], np.float32(SHADOW), where=inside)
        box, inside, x, y = leaf.pixels(height, width)
        for target, value in ((labels, count), (across, x), (down, y), (shadow, np.float32(1))):
            np.copyto(target[box], value, where=inside)
        count += 1
    return Layout(labels, across, down, shadow, count)


def leaves(rng: np.random.Generator, height: int, width: int) -> list[Leaf]:
    """Draws leaves at random, in total 0.3 to 2.5 times the picture's area, back to front."""
    side = min(height, width)
    high, low = SMALLEST_LEAF**-2, LARGEST_LEAF**-2
    mean_area = 2 * np.pi * np.log(LARGEST_LEAF / SMALLEST_LEAF) / (high - low) * side**2
    count = round(rng.uniform(0.3, 2.5) * height * width / mean_area)
    radii = side / np.sqrt(rng.uniform(low, high, count))  # inverse of the cumulative density of r⁻³
    columns = (
        rng.uniform(0, height, count),
        rng.uniform(0, width, count),
        radii,
        rng.uniform(0, np.pi, count),
        rng.uniform(0.4, 1.0, count),
        rng.choice([1.0, 2.0, 2.0, 6.0], count),
    )
    return [Leaf(*map(float, values)) for values in zip(*columns, strict=True)]


def voronoi(rng: np.random.Generator, height: int, width: int) -> tuple[Int[np.ndarray, "H W"], int]:
    """Labels each pixel by the nearest of 4 to 24 random points, after a random warp; also returns their number."""
    count = int(rng.integers(4, 25))
    warp = 0.06 * min(height, width)
    y = np.arange(height, dtype=np.float32)[:, None] + warp * noise_field(rng, height, width, 2.0)
    x = np.arange(width, dtype=np.float32)[None] + warp * noise_field(rng, height, width, 2.0)
    labels = np.zeros((height, width), np.int32)
    nearest = np.full((height, width), np.inf, np.float32)
    for label, (centre_y, centre_x) in enumerate(rng.uniform(0, 1, (count, 2)).astype(np.float32)):
        distance = (y - centre_y * height) ** 2 + (x - centre_x * width) ** 2
        labels[distance < nearest] = label
        nearest = np.minimum(nearest, distance)
    return labels, count


def shading(rng: np.random.Generator, layout: Layout) -> tuple[Float32[np.ndarray, "H W"], Float32[np.ndarray, "H W"]]:
    """Computes the diffuse and the specular factor of each pixel.

    Lambert and Blinn-Phong on bulging leaves, cast shadows, and a light that varies smoothly over the picture.
    """
    height, width = layout.labels.shape
    bulge = (rng.uniform(0.2, 0.95, layout.count) * (rng.random(layout.count) < 0.6))[layout.labels].astype(np.float32)
    square = np.minimum(layout.across**2 + layout.down**2, 1)
    normal = np.stack([bulge * layout.across, bulge * layout.down, np.sqrt(1 - bulge**2 * square)], axis=-1)
    tilt, turn = np.radians(rng.uniform(20, 60)), rng.uniform(0, 2 * np.pi)
    towards = np.array([np.sin(tilt) * np.cos(turn), np.sin(tilt) * np.sin(turn), np.cos(tilt)], np.float32)
    half = towards + np.array([0, 0, 1], np.float32)
    half /= np.linalg.norm(half)
    ambient = np.float32(rng.uniform(0.2, 0.5))
    lambert = np.maximum(normal @ towards, 0)
    falloff = np.exp(np.float32(0.2) * noise_field(rng, height, width, 2.5))
    glossy = (rng.uniform(0.1, 0.8, layout.count) * (rng.random(layout.count) < 0.3)).astype(np.float32)
    shine = rng.uniform(15, 120, layout.count).astype(np.float32)
    highlight = np.maximum(normal @ half, 0) ** shine[layout.labels] * (bulge > 0)
    lit = falloff * layout.shadow
    return falloff * ambient + lit * (1 - ambient) * lambert, lit * glossy[layout.labels] * highlight


def materials(
    rng: np.random.Generator, layout: Layout, choices: int
) -> tuple[Int[np.ndarray, " R"], Int[np.ndarray, " R"], Float32[np.ndarray, "H W"], Float32[np.ndarray, "H W"]]:
    """Draws two of `choices` reflectances per region, and per pixel the share of the second and the albedo."""
    height, width = layout.labels.shape
    first, second = rng.integers(choices, size=(2, layout.count))
    low, high = np.array([[0, 0, 0.35], [3, 0.2, 1]])[:, :, None]
    contrast, roughness, albedo = rng.uniform(low, high, (3, layout.count)).astype(np.float32)[:, layout.labels]
    bias = rng.normal(0, 2, layout.count).astype(np.float32)[layout.labels]
    mask = 1 / (1 + np.exp(bias - contrast * noise_field(rng, height, width, 1.5)))
    return first, second, mask, albedo * np.exp(roughness * noise_field(rng, height, width, 1.0))


def noise_field(rng: np.random.Generator, height: int, width: int, exponent: float) -> Float32[np.ndarray, "H W"]:
    """Draws Gaussian noise with amplitude spectrum ∝ 1 / f^exponent, mean 0, variance 1."""
    spectrum = np.fft.rfft2(rng.standard_normal((height, width)))
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    frequency[0, 0] = np.inf
    field = np.fft.irfft2(spectrum / frequency**exponent, s=(height, width))
    return (field / field.std()).astype(np.float32)


def halved(rows: Float32[np.ndarray, "L ..."]) -> Float32[np.ndarray, "n ..."]:
    """Reduces 2n + 2 rows to n, each the mean of its four nearest with weights (1, 3, 3, 1) / 8."""
    outer = rows[0:-2:2] + rows[3::2]
    inner = rows[1:-2:2] + rows[2:-1:2]
    return np.float32(0.125) * outer + np.float32(0.375) * inner
