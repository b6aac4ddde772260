"""A busy bot, ``watch``, rotation and ``archive`` for as long as wanted, while three faults at a time befall them.

    python -m tests.faults.soak                      (20 minutes)
    python -m tests.faults.soak --minutes 1.5 --seed 7
    python -m tests.faults.soak --quick --json

One bot and one ``watch`` are never killed, so that their memory, descriptors and threads can be held flat. Another bot
and another ``watch`` beside them are killed, stopped and ended again and again. Which faults come, how many seconds
each lasts and what it aims at follow from the seed; the oracle judges the end by content.
"""
