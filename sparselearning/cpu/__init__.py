"""Sparse networks on a CPU that do not compute their absent connections. The kernels need numba, the extra `cpu`."""
