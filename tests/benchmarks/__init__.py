"""The benchmarks that have tables and pictures of their own, without the systems they measure."""
