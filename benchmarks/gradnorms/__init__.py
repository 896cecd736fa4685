"""Parts of `benchmarks/gradnorm.py`: workloads, methods (one a file), measurement, page."""
