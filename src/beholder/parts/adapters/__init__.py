"""Small trained changes of a built model, put on by pattern: low-rank matrices, mixtures, scales, bottlenecks, prompts.

`apply.py` puts them on, merges and lists them; `named.py` knows them by name.
"""
