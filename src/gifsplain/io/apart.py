"""Decode the data set on standard input and write the array to standard output: a program of its own.

GDCM, the only free decoder of lossless JPEG, can abort the process on damaged data; here it takes only this one along.
Run by path, not as a module, so that it imports nothing but what it needs.
"""

import contextlib
import io
import sys

MAX_MEMORY = 4 << 30


def main() -> None:
    """Read, limit memory, decode, write in NPY form."""
    content = sys.stdin.buffer.read()
    with contextlib.suppress(ImportError, ValueError, OSError):  # no such limits on Windows
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    import numpy as np
    from pydicom import dcmread
    from pydicom.pixels.utils import pixel_array

    answer = io.BytesIO()  # numpy.save wants a place to seek in, a pipe has none
    np.save(answer, pixel_array(dcmread(io.BytesIO(content)), decoding_plugin="gdcm"))
    sys.stdout.buffer.write(answer.getbuffer())


if __name__ == "__main__":
    main()
