"""Decode one lossless JPEG frame from standard input to raw samples on standard output: a program of its own.

GDCM, the only free decoder of it, can abort the process on damaged data; here it takes only this one along. It is run
by path, not as a module, and without numpy, so that starting it costs some 50 ms of computing.

Arguments: rows, columns, samples a pixel, bits allocated, bits stored, 1 for signed, transfer syntax.
"""

import contextlib
import sys

import gdcm

MAX_MEMORY = 4 << 30


def decode(frame: bytes, shape: list[int], syntax: str) -> bytes:
    """Samples in rows, colour by pixel, in the machine's byte order."""
    rows, columns, samples, allocated, stored, signed = shape
    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(frame)
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((columns, rows, 1))
    image.SetPixelFormat(gdcm.PixelFormat(samples, allocated, stored, stored - 1, signed))
    kind = gdcm.PhotometricInterpretation.RGB if samples == 3 else gdcm.PhotometricInterpretation.MONOCHROME2
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(kind))
    image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(syntax)))
    image.SetDataElement(element)
    return bytes(image.GetBuffer().encode("utf-8", "surrogateescape"))  # the wrapper gives bytes disguised as text


def main() -> None:
    """Read, limit memory, decode, write."""
    frame = sys.stdin.buffer.read()
    with contextlib.suppress(ImportError, ValueError, OSError):  # no such limits on Windows
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.stdout.buffer.write(decode(frame, [int(part) for part in sys.argv[1:7]], sys.argv[7]))


if __name__ == "__main__":
    main()
