import gc

import pytest

from buckler.models import backend


def test_garbage_is_collected_again_after_the_import_even_a_failed_one():
    def failed_import():
        with backend._without_garbage_collection():
            assert not gc.isenabled()
            raise ImportError

    with pytest.raises(ImportError):
        failed_import()
    assert gc.isenabled()


def test_a_program_that_collects_no_garbage_stays_so():
    gc.disable()
    try:
        with backend._without_garbage_collection():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
