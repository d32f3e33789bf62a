"""Kernels in hand-written PTX."""

import numpy as np

from tools.ptx.execute import Launch, execute

REGISTERS = """
.reg .pred %p<9>;
.reg .b16 %rs<20>;
.reg .b32 %r<40>;
.reg .b64 %rd<40>;
"""


def text_of(body, parameters, threads=32, declarations=""):
    """A kernel whose pointers are %rd1, %rd2, …; %r0 is the thread and %rd0 its number in the grid, times 4."""
    names = [f"k_param_{number}" for number in range(parameters)]
    loads = "\n".join(f"ld.param.b64 %rd{number + 1}, [{name}];" for number, name in enumerate(names))
    listed = ",\n".join(f".param .u64 .ptr .global .align 1 {name}" for name in names)
    place = "mov.u32 %r0, %tid.x; mov.u32 %r39, %ctaid.x; mov.u32 %r38, %ntid.x;"
    place += "mad.lo.s32 %r39, %r39, %r38, %r0; mul.wide.u32 %rd0, %r39, 4;"
    return (
        f".version 8.8\n.target sm_90a\n.address_size 64\n{declarations}\n.visible .entry k({listed})\n"
        f".reqntid {threads}, 1, 1\n{{\n{REGISTERS}\n{loads}\n{place}\n{body}\nret;\n}}\n"
    )


def launch_of(body, inputs, outputs, *, threads=32, blocks=1, declarations="", shared=0, aliases=None):
    """A launch; `outputs` are (shape, dtype)."""
    described = tuple((array.shape, array.dtype) for array in inputs)
    outputs = tuple((tuple(shape), np.dtype(dtype)) for shape, dtype in outputs)
    new = len(inputs) + len(outputs) - len(aliases or {})
    ptx = text_of(body, new, threads, declarations)
    return Launch("k", ptx, "k", (blocks, 1, 1), (threads, 1, 1), described, outputs, aliases or {}, shared)


def run(body, inputs, outputs, *, order="together", noise=0.0, **options):
    """Outputs and report."""
    return execute(launch_of(body, inputs, outputs, **options), inputs, order=order, noise=noise)


def compute(instruction, *operands, result="b32"):
    """Runs an instruction on 32 lanes: operands in %r1, %r2, … (or %rd11, … of 64 bits), the result in %r0 or %rd10.

    Returns:
      The bits of the result; for 16-bit results those of %rs0.
    """
    body, size = [], {"b16": 2, "b32": 4, "b64": 8}[result]
    for number, operand in enumerate(operands, 1):
        wide = operand.dtype.itemsize == 8
        body.append(f"mul.wide.u32 %rd30, %r0, {operand.dtype.itemsize}; add.s64 %rd31, %rd{number}, %rd30;")
        target = {2: f"%rs{number}", 4: f"%r{number}", 8: f"%rd{10 + number}"}[operand.dtype.itemsize]
        body.append(f"ld.global.b{64 if wide else 8 * operand.dtype.itemsize} {target}, [%rd31];")
    target = {"b16": "%rs0", "b32": "%r30", "b64": "%rd10"}[result]
    body.append(instruction)
    body.append(f"mul.wide.u32 %rd30, %r0, {size}; add.s64 %rd31, %rd{len(operands) + 1}, %rd30;")
    body.append(f"st.global.{result} [%rd31], {target};")
    [output], report = run("\n".join(body), operands, [((32,), f"uint{8 * size}")])
    assert not report.faults, report
    return output
