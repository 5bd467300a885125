"""Benchmarks: one question per module, the peers side by side in one run.

    python -m benchmarks                      all questions
    python -m benchmarks --quick sleepers     one of them, in small

A question's module says what is asked and how one contender is measured; the rest is common:
:mod:`~benchmarks.rounds` runs every measurement in a fresh process, contenders taking turns, and
:mod:`~benchmarks.report` makes tables of it. To add a question, write its module and name it in
:mod:`~benchmarks.__main__`.
"""
