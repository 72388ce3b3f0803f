"""The study: what attention does to translation, shown on one's own data by models trained alike.

`python -m nmt.study DATA --out DIR` trains the ladder (no attention, attention, Transformer) and the attention family
at equal data, equal updates and like size, measures them, and writes one page whose every figure comes from the run.
It goes on where it was stopped.
"""
