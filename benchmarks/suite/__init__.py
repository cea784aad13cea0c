"""The suite of experiments around A-1 to A-4: curves, YCSB, open-loop latency, bulk loads, and peers beside them."""
