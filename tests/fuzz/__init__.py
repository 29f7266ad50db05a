"""Damaged files, thousands of them: each is read, or refused in one line that names it.

`images.py`, `models.py` and `tables.py` have a small sound file of every format and layout,
`mutations.py` damages them, `worker.py` reads them in a process of its own, `command.py` runs many
and says what went wrong:

    python -m tests.fuzz                              # 10,000 files; also pytest -m slow tests/fuzz
    python -m tests.fuzz --only png-RGB:17 --keep /tmp/x   # one of them again, kept to look at

A case is named TARGET:NUMBER and depends on nothing else.
"""
