"""What the report says about training."""

from __future__ import annotations

from topwork.reports.training_words import imbalance_in_words


def test_names_keep_their_capitals() -> None:
    why = "imbalance 'auto': logit-adjust was chosen, validation macro-F1 0.810"
    assert imbalance_in_words({"imbalance": {"why": why}}) == (
        ("Unequal classes", "Logit-adjust was chosen, validation macro-F1 0.810."),
    )
    assert imbalance_in_words({}) == ()
