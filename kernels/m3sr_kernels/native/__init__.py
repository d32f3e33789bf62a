"""Scans compiled for this CPU when they are first used, by llvmlite alone: no compiler is needed to install them.

The parts, from the machine upwards:

- `target`: the CPU, how many lanes its vectors have, and whether kernels can be compiled for it;
- `values`, `assembler`: kernels are written as Python functions over typed values; what they emit is LLVM IR;
- `vector_math`, `matrix`, `memory`: exponentials, matrix products and rows of any length, shared by the kernels;
- `job`: what a kernel is, its units of work and what it knows of a call;
- `ffi`: the frame in which XLA calls a kernel, its checks and errors, tasks on XLA's own threads;
- `compiler`: machine code, kept as an object file under the user's cache folder;
- `call`, `differentiable`: a JAX primitive that is the kernel on a CPU and XLA code everywhere else; with its gradient.

The kernels themselves stand in the folders of their ops.
"""
