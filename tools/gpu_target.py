"""Descriptions of GPUs, for which XLA compiles without the device. Importing this module keeps JAX on the CPU."""

from __future__ import annotations

import os

import jax
import numpy as np
from jax.experimental import topologies

jax.config.update("jax_platforms", "cpu")
os.environ["LLVM_DISABLE_SYMBOLIZATION"] = "1"  # symbolising unseen stack traces would take minutes

# From the data sheets: compute capability, ptxas architecture, multiprocessors, shared memory (bytes) and float32 lanes
# of each, L2 cache and memory (bytes), memory bandwidth (bytes/s), clock (GHz).
DEVICES = {
    "NVIDIA H200": ((9, 0), "sm_90a", 132, 233472, 128, 52428800, 151397597184, 4.8e12, 1.98),
    "NVIDIA A100": ((8, 0), "sm_80", 108, 167936, 64, 41943040, 85100068864, 2.04e12, 1.41),
    "NVIDIA GeForce RTX 4090": ((8, 9), "sm_89", 128, 102400, 128, 75497472, 25393692672, 1.008e12, 2.52),
}


def mesh_of(device: str) -> jax.sharding.Mesh:
    """A mesh of one device of this kind, to compile for."""
    topology = topologies.get_topology_desc(platform="cuda", target_config=target_config(device), topology="1x1x1")
    return jax.sharding.Mesh(np.array(topology.devices), ("x",))


def target_config(device: str) -> str:
    """A GpuTargetConfigProto, XLA's description of a GPU, as text."""
    (major, minor), arch, cores, shared, lanes, cache, memory, bandwidth, clock = DEVICES[device]
    feature = "feature_extension: ACCELERATED_FEATURES" if arch.endswith("a") else ""
    return f"""
    gpu_device_info {{
      threads_per_block_limit: 1024  threads_per_warp: 32  threads_per_core_limit: {2048 if minor == 0 else 1536}
      shared_memory_per_block: 49152  shared_memory_per_core: {shared}  shared_memory_per_block_optin: {shared - 1024}
      core_count: {cores}  fpus_per_core: {lanes}  clock_rate_ghz: {clock}
      block_dim_limit_x: 2147483647  block_dim_limit_y: 65535  block_dim_limit_z: 65535
      thread_dim_limit_x: 1024  thread_dim_limit_y: 1024  thread_dim_limit_z: 64
      memory_bandwidth: {int(bandwidth)}  l2_cache_size: {cache}  device_memory_size: {memory}
      cuda_compute_capability {{ major: {major} minor: {minor} {feature} }}
      registers_per_core_limit: 65536  registers_per_block_limit: 65536
      dnn_version: "9.10.0"  runtime_version: "13.0.0"  driver_version: "13.0.0"
    }}
    platform_name: "CUDA"  dnn_version_info {{ major: 9 minor: 10 }}  device_description_str: "{device}"
    """
