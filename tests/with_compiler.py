"""The mark of tests of what is compiled when the package is installed.

The extensions are optional: an installation without a C compiler is a supported one, in which there is nothing to test and plain Python
does the same (the other tests of these files). Where there is a compiler, an extension that was not built is a fault, and the tests fail.
"""

import shutil

import pytest

needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="an installation without a compiler has nothing compiled")
