"""Writes scenes the way the ARAD downloads have them: MATLAB v7.3 and v5, 8-bit photos."""

import h5py
import numpy as np
import scipy.io
from PIL import Image

NM = np.arange(400.0, 701.0, 10.0)
SIZE = (24, 30)


def random_cube(seed, size=SIZE, bands=31):
    rng = np.random.default_rng(seed)
    brightness, spectra = rng.random((*size, 1), np.float32), rng.random((*size, bands), np.float32)
    return (brightness * (0.5 + 0.4 * spectra) + 0.05).astype(np.float32)


def photo_of(cube):
    """Three bands as 8-bit codes that do not reach from 0 to 255."""
    return (cube[..., [25, 15, 5]] * 200 + 20).astype(np.uint8)


def write_v73(path, cube, nm=NM, *, reversed_axes=True, attribute=True):
    """MATLAB sees (H, W, S), HDF5 stores (S, W, H)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w", userblock_size=512) as file:
        arrays = {"cube": cube.T if reversed_axes else cube, "norm_factor": np.array([[1.0]])}
        if nm is not None:
            arrays["bands"] = np.asarray(nm)[:, None]
        for name, array in arrays.items():
            file.create_dataset(name, data=array)
            if attribute:
                file[name].attrs["MATLAB_class"] = np.bytes_("single" if array.dtype == np.float32 else "double")
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file".ljust(116) + bytes(8) + b"\x00\x02IM")


def write_v5(path, cube, nm=NM, *, compressed=False):
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {"cube": cube.astype(np.float64), "norm_factor": 1.0} | ({} if nm is None else {"bands": nm[None]})
    scipy.io.savemat(path, arrays, do_compression=compressed)


def write_photo(path, codes):
    """JPEGs are written without loss of what the tests ask of them: the largest size and quality."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(codes).save(path, **({"quality": 100, "subsampling": 0} if path.suffix == ".jpg" else {}))


def ntire2022(root, train=(1, 2, 3), valid=(901,), spec="Train_Spec", rgb="Train_RGB"):
    """A few scenes of ARAD_1K; returns name → cube."""
    cubes = {}
    for number in (*train, *valid):
        name = f"ARAD_1K_{number:04d}"
        cubes[name] = random_cube(number)
        write_v73(root / spec / f"{name}.mat", cubes[name])
        write_photo(root / rgb / f"{name}.jpg", photo_of(cubes[name]))
    return cubes


def ntire2020(root, train=(1, 2), valid=(451,), word="Validation"):
    """A few scenes of ARAD_HS, training cubes in v5, validation cubes in v7.3; returns name → cube."""
    cubes = {}
    for number in (*train, *valid):
        name, part = f"ARAD_HS_{number:04d}", "Train" if number in train else word
        cubes[name] = random_cube(number)
        write = write_v5 if number in train else write_v73
        write(root / f"NTIRE2020_{part}_Spectral" / f"{name}.mat", cubes[name])
        for track, suffix in (("Clean", "clean.png"), ("RealWorld", "RealWorld.jpg")):
            write_photo(root / f"NTIRE2020_{part}_{track}" / f"{name}_{suffix}", photo_of(cubes[name]))
    return cubes
