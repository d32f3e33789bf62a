"""Training batches: random crops, quarter turns and flips of scenes, through Grain.

An epoch is every scene times its number of crops, in a new random order; crops are drawn at random, not on a grid.
Batches run on over the end of an epoch, so none is ever short (`drop_remainder`) and a small data set can fill a large
batch.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from m3sr_jax.data.scenes import CodedScene, SceneSource, decode_into
from m3sr_jax.errors import InputError

if TYPE_CHECKING:
    import grain

# A batch of 32 crops of 128×128 takes 71 MB: few are kept ahead.
BATCHES_AHEAD = 2
SKIPPED = "skipped"


def crop_table(source: SceneSource, crop_size: int, crops_per_scene: int | None = None) -> list[int]:
    """Scene index of every crop of one epoch.

    Args:
        source: scenes to crop from.
        crop_size: side of the square crop in pixels.
        crops_per_scene: crops of each scene an epoch; None: as many as fit side by side,
            ⌊H / crop⌋·⌊W / crop⌋ (16 for 512×512 scenes and 128×128 crops), so that an epoch sees about every pixel
            once. The paper does not say.

    Raises:
        InputError: a scene smaller than the crop, by name.
    """
    table: list[int] = []
    for index, name in enumerate(source.names):
        height, width = source.size(index)
        if min(height, width) < crop_size:
            raise InputError(
                f"scene {name} is {height}×{width} pixels, smaller than the {crop_size}×{crop_size} crop: "
                f"set data.crop_size to {min(height, width)} or less, or leave the scene out"
            )
        fitting = (height // crop_size) * (width // crop_size)
        table += [index] * (fitting if crops_per_scene is None else crops_per_scene)
    return table


def steps_per_epoch(source: SceneSource, batch_size: int, crop_size: int, crops_per_scene: int | None = None) -> int:
    """Whole batches in an epoch, at least 1: ⌊crops / batch⌋ with crops as `crop_table` counts them.

    Args:
        source: all training scenes, before sharding.
        batch_size: crops a step, over all hosts.
        crop_size: side of the square crop in pixels.
        crops_per_scene: as for `train_batches`.
    """
    return max(1, len(crop_table(source, crop_size, crops_per_scene)) // batch_size)


def train_batches(
    source: SceneSource,
    *,
    batch_size: int,
    crop_size: int,
    seed: int,
    shard_index: int = 0,
    shard_count: int = 1,
    num_workers: int = 0,
    crops_per_scene: int | None = None,
    skip_bad_scenes: bool = False,
) -> Batches:
    """Endless batches {"rgb": (B, h, w, 3), "cube": (B, h, w, S)}, float32 in [0, 1], h = w = `crop_size`.

    The same arguments give the same batches, whatever `num_workers` is. With several hosts each makes the next equal
    part of every batch, in the order of their indices: together they have what one host would.

    Args:
        source: training scenes, the same on every host.
        batch_size: crops a batch, over all hosts.
        crop_size: side of the square crop in pixels.
        seed: of order, crops, turns and flips; 0 ≤ seed < 2³².
        shard_index: which host this is, 0 ≤ shard_index < shard_count.
        shard_count: hosts.
        num_workers: processes that prepare batches, each with a cache of its own; 0: threads of this process.
        crops_per_scene: see `crop_table`.
        skip_bad_scenes: put a crop of the next readable scene in the place of one that cannot be read, and count them
            in `Batches.skipped`; by default such a scene stops the iterator with its InputError.

    Raises:
        InputError: a scene smaller than the crop, or a batch that hosts cannot share equally.
    """
    import grain

    if batch_size % shard_count:
        raise InputError(
            f"config field data.batch_size: found {batch_size}, expected a multiple of {shard_count}, the processes"
        )
    table = crop_table(source, crop_size, crops_per_scene)
    transform = RandomCrop(source, crop_size, skip_bad_scenes)
    crops = grain.MapDataset.source(table).seed(seed).shuffle().repeat().random_map(transform)
    if shard_count > 1:
        crops = grain.MapDataset.source(_Share(crops, batch_size, shard_index, shard_count))
    return Batches(crops.batch(batch_size // shard_count, drop_remainder=True, batch_fn=decoded_batch), num_workers)


@dataclass(frozen=True)
class _Share:
    """One host's crops of an endless sequence, as a Grain source: of each batch the part at the host's index."""

    crops: Any  # grain.MapDataset[Crop]
    batch_size: int
    shard_index: int
    shard_count: int

    def __len__(self) -> int:
        return sys.maxsize // self.shard_count

    def __getitem__(self, index: int) -> Crop:
        part = self.batch_size // self.shard_count
        batch, place = divmod(index, part)
        return self.crops[batch * self.batch_size + self.shard_index * part + place]


class Batches:
    """Iterator over a Grain data set of batches, whose state is the number of the next batch.

    `get_state()` gives a JSON-able state; after `set_state` of it, on an iterator made with the same arguments, the
    identical next batch comes. `num_workers` may differ: Grain's own states do not carry over between its modes.

    Attributes:
        skipped: of scenes that could not be read, by index: how many crops others stood in for.
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
        except InputError as error:  # Grain adds lines about itself
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
        """Stops threads or workers; the next `next()` starts them again."""
        if self._iterator is not None:
            self._iterator.close()
            self._iterator = None

    def _start(self) -> grain.DatasetIterator[dict[str, np.ndarray]]:
        import grain

        rest = self._dataset[self._next_batch :]
        if self._num_workers == 0:
            ahead = grain.ReadOptions(num_threads=min(4, os.cpu_count() or 1), prefetch_buffer_size=BATCHES_AHEAD)
            return iter(rest.to_iter_dataset(ahead))
        _mark_flags_parsed()
        options = grain.MultiprocessingOptions(num_workers=self._num_workers, per_worker_buffer_size=1)
        unbuffered = grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)
        return iter(rest.to_iter_dataset(unbuffered).mp_prefetch(options))


@dataclass(frozen=True)
class Crop:
    """Part of a scene as it is stored, and how to turn it."""

    scene: CodedScene
    turns: int
    flip: bool
    skipped: tuple[int, ...] = ()  # scenes that could not be read in its place


@dataclass(frozen=True)
class RandomCrop:
    """Scene index and random generator → one crop, to be turned and flipped at random."""

    source: SceneSource
    crop_size: int
    skip_bad_scenes: bool = False

    def __call__(self, index: int, rng: np.random.Generator) -> Crop:
        crop = self._draw(index, rng)
        skipped: tuple[int, ...] = ()
        while isinstance(crop, InputError):
            skipped += (index,)
            if not self.skip_bad_scenes or len(skipped) == len(self.source):
                raise crop
            index = (index + 1) % len(self.source)
            crop = self._draw(index, rng)
        return replace(crop, skipped=skipped)

    def _draw(self, index: int, rng: np.random.Generator) -> Crop | InputError:
        """Returns a crop of one scene, or why the scene cannot be read."""
        height, width = self.source.size(index)
        top, left = (int(rng.integers(extent - self.crop_size + 1)) for extent in (height, width))
        turns, flip = int(rng.integers(4)), bool(rng.integers(2))
        try:
            return Crop(self.source.coded_window(index, top, left, self.crop_size, self.crop_size), turns, flip)
        except InputError as error:
            return error


def decoded_batch(crops: Sequence[Crop]) -> dict[str, np.ndarray]:
    """Square crops of one size → a batch, each pixel read once and written once.

    Until here a crop is a view of what its source keeps, of a memory-mapped file maybe.

    Args:
        crops: of one size.

    Returns:
        "rgb" (B, h, w, 3) and "cube" (B, h, w, S), float32 in [0, 1]; "skipped", indices of scenes that could not be
        read, if there are any.
    """
    shapes = {"rgb": crops[0].scene.rgb.shape, "cube": crops[0].scene.cube.shape}
    batch = {key: np.empty((len(crops), *shape), np.float32) for key, shape in shapes.items()}
    for index, crop in enumerate(crops):
        scene = crop.scene
        decode_into(batch["rgb"][index], turned_copy(scene.rgb, crop.turns, crop.flip), *scene.rgb_range)
        decode_into(batch["cube"][index], turned_copy(scene.cube, crop.turns, crop.flip), 0, scene.unit)
    skipped = [scene for crop in crops for scene in crop.skipped]
    return batch | ({SKIPPED: np.array(skipped)} if skipped else {})


def turned_copy(pixels: np.ndarray, turns: int, flip: bool) -> np.ndarray:
    """As `turned`, copied. A pixel moves as one block of bytes, twice as fast as its numbers one by one."""
    block = np.dtype((np.void, pixels.shape[-1] * pixels.itemsize))
    blocks = np.ascontiguousarray(turned(pixels.view(block)[..., 0], turns, flip))
    return blocks.view(pixels.dtype).reshape(*blocks.shape, -1)


def turned(pixels: np.ndarray, turns: int, flip: bool) -> np.ndarray:
    """(H, W, …) after `turns` quarter turns and, with `flip`, a mirror of its columns: a square's eight symmetries."""
    pixels = np.rot90(pixels, turns)
    return pixels[:, ::-1] if flip else pixels


def _mark_flags_parsed() -> None:
    """Grain reads absl flags when it starts workers, which raises outside `absl.app.run`: in notebooks and tests."""
    from absl import flags

    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()
