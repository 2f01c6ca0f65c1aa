"""Triton kernels of the packed engine, each one a pass that no library has.

Here: GPU kernels and the functions that launch them, on plain tensors. Not here: models, packs or
the choice whether to use them. Every kernel's plain counterpart stands beside its test. Importing
a module of this package needs Triton, so only code that has chosen the kernels imports them.
"""
