"""The check of mechanisms whose queries are the steps of a decoder, and whose memory is another sequence."""

from typing import Any


def check_reads_memory(mechanism: Any, owner: str, *, head_weights: bool = True) -> None:
    """Raise ValueError if a mechanism cannot attend to a memory, one query after the other.

    Args:
        mechanism: A mechanism of `kseq.attention`, or None.
        owner: Name of the class that was given it.
        head_weights: Whether the owner takes the weights of several heads.
    """
    causal, positions = getattr(mechanism, "causal", False), getattr(mechanism, "positions", None)
    if causal or positions:
        raise ValueError(
            f"The attention has causal={causal} and positions={positions!r}, which compare the positions of one "
            f"sequence, but that of a {owner} reads another one, the memory. Leave causal and positions out."
        )
    if not head_weights and getattr(mechanism, "head_weights", False):
        raise ValueError(
            f"The attention has head_weights=True, but a {owner} reads one weight for each source step. Leave "
            "head_weights out: the weights are then the mean of the heads."
        )
