"""How a network is run: allocator, folding, and the backends eager, compiled and OpenVINO."""
