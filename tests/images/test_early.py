from pathlib import Path

import pytest

from tckr.errors import UserError
from tckr.images.early import refuse_small_classes
from tckr.images.options import IngestionOptions
from tckr.images.raw import RawImage, RawTable


def check(counts, **options):
    """Look at so many images of each label; none of them exists."""
    images = [
        RawImage(label, Path("nowhere"), label) for label, n in counts.items() for _ in range(n)
    ]
    table = RawTable("folder per class", images, len(images))
    refuse_small_classes(table, IngestionOptions(**options), Path("set"))


def test_a_class_too_small_for_every_split_is_refused_unread():
    with pytest.raises(UserError, match=r"Class 'few' of set has 5 of 20,005 images.*validation"):
        check({"many": 20_000, "few": 5})
    with pytest.raises(UserError, match="single class"):
        check({"many": 20_000})


@pytest.mark.parametrize(
    ("counts", "options"),
    [
        ({"many": 20_000, "few": 60}, {}),
        ({"many": 1000, "few": 16}, {}),  # half of the many may be copies
        ({str(number): 20 for number in range(200)}, {}),
        ({"many": 500, "few": 2}, {}),  # so few are quickly read
        ({"many": 1500, "few": 1500}, {"members": 5000}),  # said when they are read
    ],
)
def test_what_may_still_be_enough_is_read(counts, options):
    check(counts, **options)
