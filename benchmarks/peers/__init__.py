"""Other ways to the same answers, each as a team writes it with care; `python -m benchmarks.peers` runs them."""
