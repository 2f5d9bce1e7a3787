"""Mechanisms as a ledger charges them, with any noise multiplier: also none, which a real ledger would not give."""

from datetime import UTC, datetime

from tckr.dp import Entry, Plan


def charged(plan: Plan, noise_multiplier: float) -> Entry:
    """The entry of a plan, spent."""
    fields = plan.model_dump(exclude={"share", "noise_multiplier"})
    return Entry(
        **fields,
        noise_multiplier=noise_multiplier,
        data_hash="test",
        spent=datetime.now(UTC),
        seeded=True,
    )
