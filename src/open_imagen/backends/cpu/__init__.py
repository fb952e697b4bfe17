"""CPU kernels as torch operators, and the layers that call them."""
