"""Benchmarks of the kernels against named rivals in the same process:
`python -m benchmarks.<topic>`."""
