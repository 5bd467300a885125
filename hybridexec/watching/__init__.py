"""What shows an executor to people: a table in the terminal, and a look at it from outside.

Each module is loaded when it is used, and so is what it draws with. All that is shown comes from
:mod:`.view`.
"""
