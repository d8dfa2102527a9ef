"""``gsr eval``: how good models are, in the papers' numbers.

``datasets`` and ``versions`` say what is scored and find it, ``protocols`` how; ``methods`` enlarge, ``runner`` goes
through it all, ``report`` and ``gallery`` tell, ``published`` knows what papers report.
"""
