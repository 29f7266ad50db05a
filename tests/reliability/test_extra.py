import importlib
import sys

import pytest

from jaxseg_xai import reliability
from jaxseg_xai.core.errors import MissingExtraError


def test_without_scikit_learn_the_extra_is_named(monkeypatch):
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "sklearn", None)
        with pytest.raises(MissingExtraError, match=r"pip install 'jaxseg-xai\[reliability\]'"):
            importlib.reload(reliability)
    importlib.reload(reliability)
