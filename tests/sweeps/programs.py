"""The images of the shared sweep, and which programs are compiled."""

import logging

import jax

NAMES = [f"i{k}" for k in range(6)]


class CompileLog(logging.Handler):
    """Names of the programs that XLA compiled (or found in its cache)."""

    def __init__(self):
        super().__init__()
        self.names = []

    def emit(self, record):
        message = record.getMessage()
        if message.startswith("Finished XLA compilation of"):
            self.names.append(message.split()[4])

    def __enter__(self):
        self.context = jax.log_compiles(True)
        self.context.__enter__()
        logging.getLogger("jax").addHandler(self)
        return self

    def __exit__(self, *error):
        logging.getLogger("jax").removeHandler(self)
        self.context.__exit__(*error)

    def count(self, name):
        return self.names.count(f"jit({name})")
