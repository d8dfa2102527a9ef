"""The HTML page of ``gsr eval``, complete in one file, to compare pictures on.

``crops`` chooses the details that are worth a look, ``archive`` keeps the pictures and crops, compressed and within a
budget of bytes, and ``page`` fills ``page.html.j2`` with them and with the scores. ``page.css`` and ``page.js`` become
part of the page.
"""
