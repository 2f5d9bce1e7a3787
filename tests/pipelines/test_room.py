"""What cannot be held is refused before it is drawn."""

import pandas as pd
import pytest
import torch

from tckr.errors import UserError
from tckr.images.tensors import to_png
from tckr.pipelines.room import check_room

MEMBERS = pd.DataFrame({"image": to_png(torch.zeros(2, 3, 32, 64, dtype=torch.uint8))})


def test_more_than_fits_is_refused_with_its_size_and_the_parameter() -> None:
    wanted = r"1,073,741,824 synthetic images of 32 x 64 pixels take 6,144\.0 GiB.*lower a\.b or ingestion\.size"
    with pytest.raises(UserError, match=wanted):
        check_room(1 << 30, MEMBERS, "a.b")


def test_what_fits_is_drawn() -> None:
    check_room(1000, MEMBERS, "a.b")
