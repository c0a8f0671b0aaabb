"""Whether a file is DICOM, told from its first bytes: pydicom, which takes a second to load, is for those that are."""


def is_dicom(content: bytes) -> bool:
    """Whether the bytes are a DICOM file: by its prefix, or a data set without one (old archives)."""
    if content[128:132] == b"DICM":
        return True
    group, element = content[:2], content[2:4]
    little, big = (b"\x02\x00", b"\x08\x00"), (b"\x00\x08",)
    known = (group in little and element[1:] == b"\x00") or (group in big and element[:1] == b"\x00")
    return len(content) >= 8 and known and (content[4:6].isalpha() or content[6:8] == b"\x00\x00")
