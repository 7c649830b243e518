"""Loops that numba compiles for CPUs."""
