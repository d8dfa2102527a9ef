"""``gsr eval``: how good models are, in the papers' numbers.

``datasets`` and ``pictures`` say what is scored and find it, ``protocols`` how; ``restorers`` enlarge, ``run`` goes
through it all, ``report`` and ``gallery`` tell, ``published`` knows what papers report.
"""
