"""Random mixes of calls and accidents, in real processes, through the public interface only.

Each run is made from a seed, which it prints; ``HYBRIDEXEC_CHAOS_SEED=...`` makes the same plan
again (what the scheduler of the machine does in the meantime is not in it).
``HYBRIDEXEC_CHAOS_SECONDS`` says how long each start method has, with each ``on_worker_loss``; see
``make chaos``.
"""
