"""Compiler options for programs that a test runs once: to optimise them costs more time than it saves."""

import jax
import jax.numpy as jnp


def _known(options):
    """The options that this XLA has; it refuses a program with one that it does not know."""

    def has(name):
        try:
            jax.jit(lambda: jnp.zeros(()), compiler_options={name: options[name]}).lower().compile()
        except jax.errors.JaxRuntimeError:
            return False
        return True

    return {name: value for name, value in options.items() if has(name)}


# Without the fusion emitters, interpreted kernels compile in 40 % less time.
QUICK = _known({"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False})
# The same for the environment of a process.
QUICK_FLAGS = " ".join(f"--{name}={str(value).lower()}" for name, value in QUICK.items())
