"""What tests share: guests and how they are built, the host as oracle, leaks, the matrix."""

import pytest

pytest.register_assert_rewrite("support.twice")
