"""The waits of suspended stages, one file for each kind: how its state is stored, and how its end is found out.

A poll is made when it is due, and earlier when somebody wakes the stage run; a wake-up says only that something has
happened, so it is the same for every kind (``transitions.unit_of_work.wake``). Another kind is a value in
``definition.waits``, a file here, and its line in ``registry``.
"""
