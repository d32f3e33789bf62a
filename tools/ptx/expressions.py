"""Instructions that compute one value from registers, as Python expressions over arrays.

Names in the text are those of `tools.ptx.scalars.TYPES` and `tools.ptx.arithmetic`, `np`, and `t`, the machine.
"""

from __future__ import annotations

from collections.abc import Callable

from tools.ptx.errors import UnsupportedError
from tools.ptx.parser import Instruction
from tools.ptx.scalars import FLOATS, TYPES, WIDER, bits_of, size_of

Value = Callable[[str, str], str]  # text of an operand, as an array of a type
Expression = tuple[str, str]  # text and type

_SYMBOLS = {"add": "+", "sub": "-", "mul": "*", "and": "&", "or": "|", "xor": "^"}
_COMPARE = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
_COMPARE |= {"lo": "<", "ls": "<=", "hi": ">", "hs": ">="}
# Of float64 numbers. The approximate ones may be wrong by what `Machine.perturb` adds.
_FUNCTIONS = {
    "add": "{0} + {1}",
    "sub": "{0} - {1}",
    "mul": "{0} * {1}",
    "fma": "{0} * {1} + {2}",
    "div": "{0} / {1}",
    "rcp": "1 / {0}",
    "sqrt": "np.sqrt({0})",
    "rsqrt": "1 / np.sqrt({0})",
    "ex2": "np.exp2({0})",
    "lg2": "np.log2({0})",
    "sin": "np.sin({0})",
    "cos": "np.cos({0})",
    "tanh": "np.tanh({0})",
}
# Where the error is bounded not relative to the result but to this.
_ERROR_SCALE = {
    "lg2": "np.maximum(np.abs(np.log2({0})), (({0} > 0.5) & ({0} < 2)))",
    "sin": "4.0",
    "cos": "4.0",
    "tanh": "2048 * np.abs(np.tanh({0}))",
}
_ALWAYS_APPROXIMATE = ("ex2", "lg2", "rsqrt", "sin", "cos", "tanh")


def expression(instruction: Instruction, value: Value) -> Expression:
    """The value that an instruction puts into its first operand.

    Raises:
      UnsupportedError: the instruction is none of those that this module knows.
    """
    root, kind = instruction.parts[0], instruction.parts[-1]
    for build in (_move, _select, _bits, _convert):
        if found := build(instruction, value):
            return found
    if kind in FLOATS and (found := _float(instruction, value)):
        return found
    if kind in TYPES and kind not in FLOATS and (found := _integer(root, instruction, value)):
        return found
    raise UnsupportedError(f"the PTX interpreter does not know `{instruction.text}`")


def comparison(instruction: Instruction, value: Value) -> str:
    """The predicate of a `setp`, `set` aside."""
    _, compare, *modifiers, kind = instruction.parts
    a, b = (value(operand, kind) for operand in instruction.operands[1:3])
    unordered = f"(np.isnan({a}) | np.isnan({b}))" if kind in FLOATS else ""
    if compare in ("nan", "num"):
        text = unordered if compare == "nan" else f"~{unordered}"
    elif compare in _COMPARE:
        text = f"({a} {_COMPARE[compare]} {b})"
        if compare == "ne" and unordered:
            text = f"({text} & ~{unordered})"
    elif compare.endswith("u") and compare[:-1] in _COMPARE:
        text = f"(({a} {_COMPARE[compare[:-1]]} {b}) | {unordered})"
    else:
        raise UnsupportedError(f"the PTX interpreter does not know `{instruction.text}`")
    for combine in set(modifiers) & {"and", "or", "xor"}:
        text = f"({text} {_SYMBOLS[combine]} {value(instruction.operands[3], 'pred')})"
    return text


def _move(i: Instruction, value: Value) -> Expression | None:
    root, kind = i.parts[0], i.parts[-1]
    if root == "cvta":
        return value(i.operands[1], kind), kind
    if root != "mov" or i.operands[0].startswith("{"):
        return None
    if not i.operands[1].startswith("{"):
        return value(i.operands[1], bits_of(kind)), bits_of(kind)
    parts = i.operands[1].strip("{} ").split(",")
    bits = 8 * size_of(kind) // len(parts)
    wide = bits_of(kind)
    texts = (value(part.strip(), f"b{bits}") for part in parts)
    return " | ".join(f"({text}.astype({wide}) << {wide}({bits * k}))" for k, text in enumerate(texts)), wide


def _select(i: Instruction, value: Value) -> Expression | None:
    root, kind = i.parts[0], i.parts[-1]
    if root == "selp":
        kind = bits_of(kind)
        a, b = (value(operand, kind) for operand in i.operands[1:3])
        return f"np.where({value(i.operands[3], 'pred')}, {a}, {b})", kind
    if root in ("min", "max"):
        function = {"min": "minimum", "max": "maximum"}[root]
        if kind in FLOATS and "NaN" not in i.parts:
            function = f"f{root}"  # NaN only if both are
        return f"np.{function}({value(i.operands[1], kind)}, {value(i.operands[2], kind)})", kind
    return None


def _bits(i: Instruction, value: Value) -> Expression | None:
    root, kind = i.parts[0], i.parts[-1]

    def bits(number: int, name: str = "b32") -> str:
        return value(i.operands[number], name)

    if root in ("and", "or", "xor"):
        return f"{bits(1, kind)} {_SYMBOLS[root]} {bits(2, kind)}", kind
    if root == "not":
        return f"~{bits(1, kind)}", kind
    if root in ("shl", "shr"):
        function = "shift_left" if root == "shl" else "shift_right"
        return f"{function}({bits(1, kind)}, {bits(2)})", kind
    if root == "shf":
        left, clamp = i.parts[1] == "l", i.parts[2] == "clamp"
        return f"funnel({bits(1)}, {bits(2)}, {bits(3)}, left={left}, clamp={clamp})", "b32"
    if root == "bfe":
        return f"extract({bits(1, kind)}, {bits(2)}, {bits(3)})", kind
    if root == "bfi":
        return f"insert({bits(1, kind)}, {bits(2, kind)}, {bits(3)}, {bits(4)})", kind
    if root == "prmt" and len(i.parts) == 2:
        return f"permute({bits(1)}, {bits(2)}, {bits(3)})", "b32"
    if root == "lop3":
        return f"logic({bits(1)}, {bits(2)}, {bits(3)}, {int(i.operands[4], 0)})", "b32"
    if root == "popc":
        return f"np.bitwise_count({bits(1, kind)}).astype(u32)", "b32"
    if root == "clz":
        return f"leading_zeros({bits(1, kind)})", "b32"
    return None


def _integer(root: str, i: Instruction, value: Value) -> Expression | None:
    kind = i.parts[-1]
    wrapped = bits_of(kind)
    if root in ("add", "sub") and "cc" not in i.parts and "sat" not in i.parts:
        a, b = (value(operand, wrapped) for operand in i.operands[1:3])
        return f"{a} {_SYMBOLS[root]} {b}", wrapped
    if root in ("mul", "mad"):
        return _product(i, value)
    functions = {"div": "divide({0}, {1})", "rem": "remainder({0}, {1})", "neg": "0 - {0}", "abs": "np.abs({0})"}
    if root not in functions:
        return None
    return functions[root].format(*(value(operand, kind) for operand in i.operands[1:])), kind


def _product(i: Instruction, value: Value) -> Expression | None:
    """`mul` and `mad`: the lower half, the upper half or all of a product."""
    root, how, kind = i.parts[0], i.parts[1], i.parts[-1]
    result = {"lo": bits_of(kind), "wide": kind[0] + WIDER.get(kind[1:], ""), "hi": kind}.get(how)
    if result is None:
        return None
    a, b = (value(operand, result if how == "lo" else kind) for operand in i.operands[1:3])
    text = f"{a} * {b}"
    if how == "wide":
        text = f"{a}.astype({result}) * {b}.astype({result})"
    elif how == "hi":
        text = f"multiply_high({a}, {b})"
    return (f"{text} + {value(i.operands[3], result)}" if root == "mad" else text), result


def _float(i: Instruction, value: Value) -> Expression | None:
    root, kind = i.parts[0], i.parts[-1]
    exact = {"neg": "-{0}", "abs": "np.abs({0})", "copysign": "np.copysign({1}, {0})"}
    if root not in exact and root not in _FUNCTIONS:
        return None
    operands = [value(operand, kind) for operand in i.operands[1:]]
    if root in exact:
        return exact[root].format(*operands), kind
    if kind == "f64":
        if root == "fma":
            return f"fma64({', '.join(operands)})", kind
        return _FUNCTIONS[root].format(*operands), kind
    flushed, rounding = "ftz" in i.parts, rounding_of(i)
    if kind == "f32" and root in ("add", "sub", "mul") and rounding == "rn" and not flushed and "sat" not in i.parts:
        return _FUNCTIONS[root].format(*operands), kind  # NumPy rounds one float32 operation correctly
    wide = [f"{f'flush({operand})' if flushed else operand}.astype(f64)" for operand in operands]
    text = _FUNCTIONS[root].format(*wide)
    if root in _ALWAYS_APPROXIMATE or {"approx", "full"} & set(i.parts):
        scale = f", {_ERROR_SCALE[root].format(*wide)}" if root in _ERROR_SCALE else ""
        text = f"t.perturb({text}{scale})"
    text = f"narrow({text}, {rounding!r})" if kind == "f32" else f"({text}).astype({kind})"
    text = f"saturate({text})" if "sat" in i.parts else text
    return (f"flush({text})" if flushed else text), kind


def rounding_of(i: Instruction) -> str:
    """rn, rz, rm or rp; rn where none is stated."""
    return next((part for part in i.parts if part in ("rn", "rz", "rm", "rp")), "rn")


def _convert(i: Instruction, value: Value) -> Expression | None:
    if i.parts[0] != "cvt":
        return None
    target, source = i.parts[-2:]
    if target in ("bf16x2", "f16x2"):
        high, low = (f"{value(a, source)}.astype({target[:-2]}).view(b16).astype(b32)" for a in i.operands[1:3])
        return f"({high} << b32(16)) | {low}", "b32"
    a = value(i.operands[1], source)
    if target == "tf32":
        return f"to_tf32({a}, {'rna' in i.parts})", "b32"
    integral = next((part for part in i.parts if part in ("rni", "rzi", "rmi", "rpi")), None)
    if source in FLOATS and target not in FLOATS:
        return f"to_integer({a}, {target}, {integral!r})", target
    if integral:
        return f"round_to_integral({a}, {integral!r})", target
    text = f"narrow({a}, {rounding_of(i)!r})" if (source, target) == ("f64", "f32") else f"{a}.astype({target})"
    return (f"saturate({text})" if "sat" in i.parts else text), target
