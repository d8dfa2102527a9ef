"""The HTML page of ``gsr eval`` for comparing pictures, in one file.

``crops`` chooses crops, ``archive`` encodes pictures and crops within a budget of bytes, and ``page`` fills
``page.html.j2`` with them and with the scores. ``page.css`` and ``page.js`` become part of the page.
"""
