"""Benchmarks: the peers side by side in one run.

    python -m benchmarks                      all questions
    python -m benchmarks --quick sleepers     one of them, in small

A question's module, in :mod:`~benchmarks.questions`, says what is asked and how one contender is
measured; the contenders are in :mod:`~benchmarks.contenders`. The rest is common:
:mod:`~benchmarks.harness.rounds` runs every measurement in a fresh process, contenders taking
turns, and :mod:`~benchmarks.harness.report` makes tables of it. To add a question, write its module
and name it in :mod:`benchmarks.questions`.
"""
