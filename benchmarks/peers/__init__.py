"""Models and engines that the benchmarks of private steps compare."""
