"""Executes compiled GPU kernels on a CPU: an interpreter of PTX with a checker and counters.

    .venv-gpu/bin/python -m tools.ptx ss2d_scan                       # value and gradient against float64; faults
    .venv-gpu/bin/python -m tools.ptx ss2d_scan --count "photo, spatial, full"   # instructions a pixel and direction

`make .venv-gpu/.run` builds the environment. Run the commands from the root of the checkout, whose kernels are taken as
they are. In Python:

    with executed_launches("NVIDIA H200") as launches:
        y = m3sr_kernels.s6_scan(**arguments, implementation="pallas_triton")   # every launch runs as PTX
    for run in launches:
        print(run.launch.name, run.report.instructions / run.report.warps, run.report)

A kernel goes through `parser` (text to statements), `translator` (basic blocks to NumPy, by `emit`, `expressions` and
`operands`), `scheduler` (branches and barriers of the threads of a `machine`; `warp` and `matrix` have what a warp does
together), `memory` and `history` (bounds, alignment, uninitialised loads, races). `execute` runs one launch, `counts`
counts instructions, `damage` and `recording` serve tests. `compiler`, `pallas`, `ops` and `counts` need JAX for CUDA.

Not covered: what ptxas makes of the PTX, the exact bits of approximate instructions, the order of memory accesses
beyond barriers, atomics and asynchronous copies. An instruction that the interpreter does not know is an error.
"""
