"""What `podcam wrap` makes of options that are wrong."""

import pytest

from podcam.cli.wrap import run_misused
from podcam.errors import UsageError


@pytest.mark.parametrize("option", ["--use", "--usr=1000", "--uid", "-u", "--user", "--required"])
def test_an_app_whose_user_may_have_been_meant_does_not_start_as_another(option: str) -> None:
    with pytest.raises(UsageError, match="as it was"):
        run_misused([option, "1000", "--", "false"], UsageError("as it was"))
