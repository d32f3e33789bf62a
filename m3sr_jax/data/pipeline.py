"""Training batches: random crops, quarter turns and flips of scenes, with Grain.

An epoch draws from every scene as many random crops as fit side by side, in a new random order. Batches continue across
the end of an epoch, so no batch is short and a small data set can fill a large batch. With a patch size, each image is
a mosaic of smaller crops from different scenes: a batch of the same cost shows more of the data.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool

from m3sr_jax.data.augmentation import Augmentation
from m3sr_jax.data.scenes import CodedScene, SceneSource, decode_into, decode_rgb_into
from m3sr_jax.errors import InputError

if TYPE_CHECKING:
    import grain

PREFETCHED_BATCHES = 2  # a batch of 32 crops of 128×128 takes 71 MB
SKIPPED = "skipped"


def crop_table(source: SceneSource, crop_size: int) -> list[int]:
    """Returns the scene index of every crop of one epoch.

    A scene appears ⌊H / crop⌋·⌊W / crop⌋ times (16 for 512×512 scenes and 128×128 crops), so that an epoch covers about
    every pixel once. The paper does not give a number.

    Args:
        source: scenes to crop from.
        crop_size: side of the square crop in pixels.

    Raises:
        InputError: a scene is smaller than the crop.
    """
    table: list[int] = []
    for index, name in enumerate(source.names):
        height, width = source.size(index)
        if min(height, width) < crop_size:
            raise InputError(
                f"scene {name} is {height}×{width} pixels, smaller than the {crop_size}×{crop_size} crop: "
                f"set data.crop_size to {min(height, width)} or less, or leave the scene out"
            )
        table += [index] * ((height // crop_size) * (width // crop_size))
    return table


def steps_per_epoch(source: SceneSource, batch_size: int, crop_size: int, patch_size: int | None = None) -> int:
    """Counts the whole batches in an epoch, at least 1: ⌊crops / crops of a batch⌋ with the crops of `crop_table`.

    Args:
        source: all training scenes, before sharding.
        batch_size: images per step, over all hosts.
        crop_size: side of the square image in pixels.
        patch_size: as in `train_batches`.
    """
    side = patch_size or crop_size
    return max(1, len(crop_table(source, side)) // (batch_size * (crop_size // side) ** 2))


def train_batches(
    source: SceneSource,
    *,
    batch_size: int,
    crop_size: int,
    seed: int,
    shard_index: int = 0,
    shard_count: int = 1,
    num_workers: int = 0,
    skip_bad_scenes: bool = False,
    augmentation: Augmentation | None = None,
    patch_size: int | None = None,
) -> Batches:
    """Returns endless batches {"rgb": (B, h, w, 3), "cube": (B, h, w, S)}, float32 in [0, 1], h = w = `crop_size`.

    With augmentation, batches also have "clipped" (B, h, w): the pixels whose colour the photo does not show.

    The same arguments give the same batches for any `num_workers`. Each of several hosts prepares an equal shard of
    every batch; their shards, in the order of `shard_index`, make up the batch of a single host.

    Args:
        source: training scenes, the same on every host.
        batch_size: images per batch, over all hosts.
        crop_size: side of the square images in pixels.
        seed: for order, crops, turns and flips; 0 ≤ seed < 2³².
        shard_index: this host's index, 0 ≤ shard_index < shard_count.
        shard_count: number of hosts.
        num_workers: processes that prepare batches, each with its own cache; 0: threads of this process.
        skip_bad_scenes: replace a crop of an unreadable scene by one of the next readable scene, and count it in
            `Batches.skipped`; by default the iterator raises the scene's InputError.
        augmentation: changes each crop, with draws of its own.
        patch_size: side of the crops that a mosaic of `crop_size` is put together from, a divisor of it; None: each
            image is one crop.

    Raises:
        InputError: a scene is smaller than the crop, or `batch_size` is not a multiple of `shard_count`.
    """
    import grain

    if batch_size % shard_count:
        raise InputError(
            f"config field data.batch_size: found {batch_size}; expected a multiple of {shard_count} (processes)"
        )
    side = patch_size or crop_size
    per_side = crop_size // side
    num_crops = batch_size * per_side**2
    transform = RandomCrop(source, side, skip_bad_scenes, augmentation)
    crops = grain.MapDataset.source(crop_table(source, side)).seed(seed).shuffle().repeat().random_map(transform)
    if shard_count > 1:
        crops = grain.MapDataset.source(_Shard(crops, num_crops, shard_index, shard_count))
    make_batch = partial(mosaic_batch, per_side=per_side) if per_side > 1 else decoded_batch
    return Batches(crops.batch(num_crops // shard_count, drop_remainder=True, batch_fn=make_batch), num_workers)


@dataclass(frozen=True)
class _Shard:
    """One host's shard of every batch of an endless sequence of crops, as a Grain source."""

    crops: Any  # grain.MapDataset[Crop]
    batch_size: int
    shard_index: int
    shard_count: int

    def __len__(self) -> int:
        return sys.maxsize // self.shard_count

    def __getitem__(self, index: int) -> Crop:
        size = self.batch_size // self.shard_count
        batch, position = divmod(index, size)
        return self.crops[batch * self.batch_size + self.shard_index * size + position]


class Batches:
    """Iterator over a Grain data set of batches; its state is the number of the next batch.

    `get_state()` returns a state that JSON can represent. After `set_state(state)`, an iterator made with the same
    arguments continues with the identical next batch. Only `num_workers` may differ, unlike with Grain's own states.

    Attributes:
        skipped: index of each unreadable scene → number of its crops that were replaced.
    """

    def __init__(self, dataset: grain.MapDataset[dict[str, np.ndarray]], num_workers: int = 0):
        self._dataset = dataset
        self._num_workers = num_workers
        self._next_batch = 0
        self.skipped: Counter[int] = Counter()
        self._iterator: grain.DatasetIterator[dict[str, np.ndarray]] | None = None

    def __iter__(self) -> Batches:
        return self

    def __next__(self) -> dict[str, np.ndarray]:
        if self._iterator is None:
            self._iterator = self._start()
        try:
            batch = next(self._iterator)
        except InputError as error:  # without the lines that Grain appends
            raise InputError(str(error).partition("\n")[0]) from error
        self._next_batch += 1
        self.skipped.update(batch.pop(SKIPPED, np.empty(0, int)).tolist())
        return batch

    def get_state(self) -> dict[str, Any]:
        state: dict[str, Any] = {"next_batch": self._next_batch}
        return state | ({SKIPPED: {str(index): count for index, count in self.skipped.items()}} if self.skipped else {})

    def set_state(self, state: Mapping[str, Any]) -> None:
        self.close()
        self._next_batch = state["next_batch"]
        self.skipped = Counter({int(index): count for index, count in state.get(SKIPPED, {}).items()})

    def close(self) -> None:
        """Stops threads or workers; `next()` starts them again."""
        if self._iterator is not None:
            self._iterator.close()
            self._iterator = None

    def _start(self) -> grain.DatasetIterator[dict[str, np.ndarray]]:
        import grain

        rest = self._dataset[self._next_batch :]
        if self._num_workers == 0:
            threads = min(4, os.cpu_count() or 1)
            options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=PREFETCHED_BATCHES)
            return iter(rest.to_iter_dataset(options))
        _mark_flags_parsed()
        options = grain.MultiprocessingOptions(num_workers=self._num_workers, per_worker_buffer_size=1)
        unbuffered = grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)
        return iter(rest.to_iter_dataset(unbuffered).mp_prefetch(options))


@dataclass(frozen=True)
class Crop:
    """Part of a scene as it is stored, with its quarter turns and flip, and its clipped pixels if it was augmented."""

    scene: CodedScene
    turns: int
    flip: bool
    skipped: tuple[int, ...] = ()  # unreadable scenes that it replaces
    clipped: Bool[np.ndarray, "H W"] | None = None


@dataclass(frozen=True)
class RandomCrop:
    """Scene index and random generator → one crop with random turns and flip, augmented if that is on."""

    source: SceneSource
    crop_size: int
    skip_bad_scenes: bool = False
    augmentation: Augmentation | None = None

    def __call__(self, index: int, rng: np.random.Generator) -> Crop:
        crop = self._draw(index, rng)
        skipped: tuple[int, ...] = ()
        while isinstance(crop, InputError):
            skipped += (index,)
            if not self.skip_bad_scenes or len(skipped) == len(self.source):
                raise crop
            index = (index + 1) % len(self.source)
            crop = self._draw(index, rng)
        if self.augmentation is not None:
            scene, clipped = self.augmentation(crop.scene, rng)
            crop = replace(crop, scene=scene, clipped=clipped)
        return replace(crop, skipped=skipped)

    def _draw(self, index: int, rng: np.random.Generator) -> Crop | InputError:
        """Returns a crop of one scene, or the error that makes it unreadable."""
        height, width = self.source.size(index)
        top, left = (int(rng.integers(extent - self.crop_size + 1)) for extent in (height, width))
        turns, flip = int(rng.integers(4)), bool(rng.integers(2))
        try:
            return Crop(self.source.coded_window(index, top, left, self.crop_size, self.crop_size), turns, flip)
        except InputError as error:
            return error


def decoded_batch(crops: Sequence[Crop]) -> dict[str, np.ndarray]:
    """Decodes crops into a batch, reading and writing each pixel once.

    Until this call a crop is a view of its source's memory or memory-mapped file.

    Args:
        crops: square crops of one size.

    Returns:
        "rgb" (B, h, w, 3) and "cube" (B, h, w, S), float32 in [0, 1]; "clipped" (B, h, w) of augmented crops; and
        "skipped", the indices of unreadable scenes, if there are any.
    """
    shapes = {"rgb": crops[0].scene.rgb.shape, "cube": crops[0].scene.cube.shape}
    batch = {key: np.empty((len(crops), *shape), np.float32) for key, shape in shapes.items()}
    for index, crop in enumerate(crops):
        scene = crop.scene
        decode_rgb_into(batch["rgb"][index], turned_copy(scene.rgb, crop.turns, crop.flip), scene)
        decode_into(batch["cube"][index], turned_copy(scene.cube, crop.turns, crop.flip), 0, scene.unit)
    masks = [turned(crop.clipped, crop.turns, crop.flip) for crop in crops if crop.clipped is not None]
    if masks:
        batch["clipped"] = np.stack(masks)
    skipped = [scene for crop in crops for scene in crop.skipped]
    return batch | ({SKIPPED: np.array(skipped)} if skipped else {})


def mosaic_batch(crops: Sequence[Crop], per_side: int) -> dict[str, np.ndarray]:
    """Decodes crops and puts `per_side`² of them together, row by row, into each image of the batch."""
    batch = decoded_batch(crops)
    for key in batch.keys() - {SKIPPED}:
        count, side, _, *rest = batch[key].shape
        grid = batch[key].reshape(count // per_side**2, per_side, per_side, side, side, *rest)
        batch[key] = np.swapaxes(grid, 2, 3).reshape(-1, per_side * side, per_side * side, *rest)
    return batch


def turned_copy(pixels: np.ndarray, turns: int, flip: bool) -> np.ndarray:
    """Returns a copy of `turned(…)`. Moving each pixel as one block of bytes is twice as fast as moving its numbers."""
    block = np.dtype((np.void, pixels.shape[-1] * pixels.itemsize))
    blocks = np.ascontiguousarray(turned(pixels.view(block)[..., 0], turns, flip))
    return blocks.view(pixels.dtype).reshape(*blocks.shape, -1)


def turned(pixels: np.ndarray, turns: int, flip: bool) -> np.ndarray:
    """Turns (H, W, …) by `turns` quarter turns, then mirrors its columns if `flip`: a square's eight symmetries."""
    pixels = np.rot90(pixels, turns)
    return pixels[:, ::-1] if flip else pixels


def _mark_flags_parsed() -> None:
    """Lets Grain start workers outside `absl.app.run`, as in notebooks and tests, where reading absl flags raises."""
    from absl import flags

    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()
