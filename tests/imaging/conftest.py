"""What is encoded from a phantom says the same of its origin as in the tests of the results."""

from tests.results.conftest import manifest, provenance

__all__ = ["manifest", "provenance"]
