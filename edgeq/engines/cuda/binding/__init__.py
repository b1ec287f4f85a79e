"""A node and where its values lie -> the kernels that can carry it out."""
