from tests.daemon.conftest import built

__all__ = ["built"]
