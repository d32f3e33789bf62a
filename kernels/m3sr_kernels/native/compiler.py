"""Machine code of kernels: made by LLVM when first needed, kept as an object file under the user's cache folder.

A file's name holds a hash of everything that its code depends on: the sources, the kernel's name, llvmlite and LLVM,
the CPU and its features. The file begins with a checksum; one that is damaged, or that another user could have
written, is made again. Files are written under a temporary name and renamed.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import logging
import os
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

from m3sr_kernels.native.assembler import Module
from m3sr_kernels.native.target import Target, host

_log = logging.getLogger(__name__)
_lock = threading.RLock()
_kept: list[object] = []  # engines own their code: dropping one would unmap it
_CHECKSUM_BYTES = 32


def load(name: str, build: Callable[[Module], None]) -> int:
    """Returns the address of the function `name`, from the cache or compiled now.

    Args:
      name: of the kernel and of its sizes that are compiled in: names one machine code.
      build: adds the function to a module.
    """
    with _lock:
        target = host()
        path = cache_folder() / f"{name}-{_key(name, target)}.o"
        code = _read(path)
        if code is None:
            _log.info("compiling the kernel %s for %s; kept in %s", name, target.cpu, path.parent)
            code = compile_object(name, build, target)
            _write(path, code)
        return _link(name, code, target)


def cache_folder() -> Path:
    """$XDG_CACHE_HOME/m3sr-jax, or ~/.cache/m3sr-jax."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(base) / "m3sr-jax"


def compile_object(name: str, build: Callable[[Module], None], target: Target) -> bytes:
    """Builds a module and compiles it for a CPU, of whatever family."""
    import llvmlite.binding as llvm

    module = Module(name, target.triple, target.lanes, target.tile)
    build(module)
    parsed = llvm.parse_assembly(str(module.ir))
    machine = _machine(target)
    options = llvm.create_pipeline_tuning_options(speed_level=2)
    options.loop_vectorization = options.slp_vectorization = options.loop_unrolling = False
    passes = llvm.create_pass_builder(machine, options)
    passes.getModulePassManager().run(parsed, passes)
    return machine.emit_object(parsed)


def _machine(target: Target):
    import llvmlite.binding as llvm

    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    return llvm.Target.from_triple(target.triple).create_target_machine(
        cpu=target.cpu, features=target.features, opt=3, reloc="default", codemodel="jitdefault", jit=True
    )


def _link(name: str, code: bytes, target: Target) -> int:
    import llvmlite.binding as llvm

    for symbol, address in _process_functions().items():
        llvm.add_symbol(symbol, address)
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), _machine(target))
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    _kept.append(engine)
    return engine.get_function_address(name)


@functools.cache
def _process_functions() -> dict[str, int]:
    """What compiled code calls, by addresses that Python knows on every system."""
    if sys.platform == "win32":
        give_way = ctypes.WinDLL("kernel32").SwitchToThread
    else:
        give_way = ctypes.CDLL(None).sched_yield
    functions = {
        "m3sr_allocate": ctypes.pythonapi.PyMem_RawMalloc,
        "m3sr_free": ctypes.pythonapi.PyMem_RawFree,
        "m3sr_yield": give_way,
        "memset": ctypes.memset,
        "memcpy": ctypes.memmove,
        "memmove": ctypes.memmove,
    }
    return {name: ctypes.cast(function, ctypes.c_void_p).value or 0 for name, function in functions.items()}


def _key(name: str, target: Target) -> str:
    import llvmlite
    import llvmlite.binding as llvm

    parts = [
        _sources(),
        name,
        llvmlite.__version__,
        str(llvm.llvm_version_info),
        sys.version,
        *map(str, vars(target).values()),
    ]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


@functools.cache
def _sources() -> str:
    """Hash of this folder's sources and of every op's kernels."""
    here = Path(__file__).parent
    digest = hashlib.sha256()
    for path in sorted([*here.glob("*.py"), *here.parent.glob("*/native*.py")]):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


def _read(path: Path) -> bytes | None:
    """The code in a file, None if there is none that can be trusted."""
    try:
        if os.name == "posix" and (path.stat().st_uid != os.getuid() or path.stat().st_mode & 0o022):
            _log.warning("%s can be written by others; the kernel is compiled again", path)
            return None
        data = path.read_bytes()
    except OSError:
        return None
    checksum, code = data[:_CHECKSUM_BYTES], data[_CHECKSUM_BYTES:]
    if checksum != _checksum(path, code):
        _log.warning("%s is damaged; the kernel is compiled again", path)
        return None
    return code


def _write(path: Path, code: bytes) -> None:
    """Keeps the code; a folder that cannot be written costs the compilation in every process, and a line in the log."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.stem)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(_checksum(path, code) + code)
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        _log.warning("cannot keep compiled kernels in %s: %s", path.parent, error)


def _checksum(path: Path, code: bytes) -> bytes:
    return hashlib.sha256(path.name.encode() + code).digest()
