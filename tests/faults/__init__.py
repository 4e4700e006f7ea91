"""The fault suite: what must be survived, tried on this library and on its peers.

    python -m tests.faults [--rows N ...] [--subjects ours ...] [--json FILE]

Each file `row_NN_*.py` is one row of the table. It says the fault and what must happen, and has a function for each subject that the fault can be
tried on, named after it: `ours`, `lightning`, `transformers`, `accelerate`. The function makes the fault happen, in processes of its own and in a
folder that is given, and returns what was said; it raises `Fell` when the subject does not do what must happen. A subject without a function is not
applicable.
"""
